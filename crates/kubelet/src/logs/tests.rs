use std::io::Write;
use std::path::Path;

use expect_test::{Expect, expect};
use tokio::sync::{mpsc, oneshot};

use super::read::{Wanted, send};
use super::{parse, rotate, tail_text};

const LOG: &str = "\
2026-01-01T00:00:01.000000000Z stdout F one
2026-01-01T00:00:02.000000000Z stderr F two
2026-01-01T00:00:03.000000000Z stdout P thr
2026-01-01T00:00:03.000000001Z stdout F ee
rubbish
2026-01-01T00:00:04.000000000Z stdout F four
";

async fn read(wanted: Wanted) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, LOG).unwrap();
    let (to, mut from) = mpsc::channel(100);
    send(path, wanted, std::future::pending(), to).await;
    let mut all = Vec::new();
    while let Some(chunk) = from.recv().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    String::from_utf8(all).unwrap()
}

async fn check(wanted: Wanted, want: Expect) {
    want.assert_eq(&read(wanted).await);
}

#[tokio::test]
async fn what_is_wanted_of_a_log() {
    check(
        Wanted::default(),
        expect![[r#"
        one
        two
        three
        four
    "#]],
    )
    .await;
    let tail = |n| Wanted {
        tail: Some(n),
        ..Wanted::default()
    };
    check(tail(0), expect![[""]]).await;
    check(
        tail(1),
        expect![[r#"
        four
    "#]],
    )
    .await;
    check(
        tail(100),
        expect![[r#"
        one
        two
        three
        four
    "#]],
    )
    .await;
    let wanted = Wanted {
        since: Some("2026-01-01T00:00:03Z".parse().unwrap()),
        timestamps: true,
        ..Wanted::default()
    };
    check(
        wanted,
        expect![[r#"
        2026-01-01T00:00:03.000000000Z thr2026-01-01T00:00:03.000000001Z ee
        2026-01-01T00:00:04.000000000Z four
    "#]],
    )
    .await;
    let wanted = Wanted {
        stream: Some("stderr"),
        ..Wanted::default()
    };
    check(
        wanted,
        expect![[r#"
        two
    "#]],
    )
    .await;
    let wanted = Wanted {
        limit_bytes: Some(6),
        ..Wanted::default()
    };
    check(
        wanted,
        expect![[r#"
        one
        tw"#]],
    )
    .await;
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn following_sees_growth_rotation_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, "t stdout F one\n");
    let (to, mut from) = mpsc::channel(100);
    let (end, ended) = oneshot::channel::<()>();
    let wanted = Wanted {
        follow: true,
        ..Wanted::default()
    };
    let ended = async { drop(ended.await) };
    let reading = tokio::spawn(send(path.clone(), wanted, ended, to));
    let mut seen = String::new();
    let mut until = async |text: &str| {
        while !seen.ends_with(text) {
            let chunk = from.recv().await.expect("more is coming").unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    until("one\n").await;
    // Half a line is not shown before it is whole.
    append(&path, "t stdout F tw");
    append(&path, "o\n");
    until("two\n").await;
    append(&path, "t stdout F last of the old file\n");
    rotate::put_aside(&path).unwrap();
    append(&path, "t stdout F three\n");
    until("three\n").await;
    append(&path, "t stdout F four\n");
    end.send(()).unwrap();
    until("four\n").await;
    reading.await.unwrap();
    expect![[r#"
        one
        two
        last of the old file
        three
        four
    "#]]
    .assert_eq(&seen);
}

#[test]
fn of_what_was_put_aside_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    for number in 0..6 {
        std::fs::write(dir.path().join(format!("0.log.2025010{number}-000000")), "").unwrap();
    }
    append(&path, "x");
    rotate::put_aside(&path).unwrap();
    let count = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(count(), 4, "the new one makes five");
    assert!(!dir.path().join("0.log.20250102-000000").exists());
    append(&path, "y");
    rotate::remove(&path);
    assert_eq!(count(), 0);
}

#[test]
fn the_end_of_a_log_as_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, LOG);
    assert_eq!(tail_text(&path, 2048, 1), "four\n");
    assert_eq!(tail_text(&path, 2048, 80), "one\ntwo\nthree\nfour\n");
    assert_eq!(tail_text(Path::new("/nowhere"), 1, 1), "");
    assert_eq!(parse(b"x stdio F y"), None);
    assert_eq!(parse(b"x stdout F").unwrap().text, b"");
}

/// What is written between the search for the beginning of a tail and its reading is no part of it.
#[tokio::test]
async fn a_tail_has_no_more_lines_than_wanted_while_the_container_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let line = "2026-01-01T00:00:01.000000000Z stdout F one\n";
    std::fs::write(&path, line).unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (writing, file) = (std::sync::Arc::clone(&done), path.clone());
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        while !writing.load(std::sync::atomic::Ordering::Relaxed) {
            file.write_all(line.as_bytes()).unwrap();
        }
    });
    for _ in 0..200 {
        let wanted = Wanted {
            tail: Some(2),
            ..Wanted::default()
        };
        let (to, mut from) = mpsc::channel(1000);
        send(path.clone(), wanted, std::future::pending(), to).await;
        let mut text = Vec::new();
        while let Some(chunk) = from.recv().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        let lines = text
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .count();
        assert!((1..=2).contains(&lines), "{lines}");
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}
