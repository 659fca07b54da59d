//! A real process, killed under load.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{b, put, tiny, txn};
use crate::embedded::{Engine, Options};
use crate::{Range, RangeEnd, Store, TxnResult};
use futures::StreamExt;

const DIR: &str = "STORE_TEST_KILL_DIR";

fn options() -> Options {
    Options {
        segment_bytes: 20_000,
        checkpoint_bytes: 40_000,
        history_revisions: 2_000,
        ..tiny()
    }
}

/// The process that is killed: writes for ever and says what was acknowledged.
fn child(dir: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let engine = Engine::open(dir, options()).unwrap();
    println!();
    for writer in 0..8 {
        let engine = engine.clone();
        runtime.spawn(async move { write_for_ever(&engine, writer).await });
    }
    loop {
        std::thread::park();
    }
}

async fn write_for_ever(engine: &Arc<Engine>, writer: u32) {
    for count in 0u64.. {
        let (key, value) = (format!("k{writer}/{}", count % 50), format!("{count:040}"));
        let result = engine.txn(txn([put(&key, &value)])).await.unwrap();
        let TxnResult::Committed { revision, .. } = result else {
            unreachable!("no condition")
        };
        let line = format!("ack {revision} {key} {value}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(DIR) {
        child(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tests::kill::kill_9_loses_nothing_that_was_acknowledged",
            ])
            .arg("--nocapture")
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut acknowledged: Vec<String> = Vec::new();
        let mut take = |line: String| {
            // The last line may have been cut by the kill.
            if line.starts_with("ack ") && line.split(' ').nth(3).is_some_and(|v| v.len() == 40) {
                acknowledged.push(line);
            }
        };
        lines
            .by_ref()
            .take(300 + 500 * round)
            .for_each(|line| take(line.unwrap()));
        process.kill().unwrap();
        process.wait().unwrap();
        lines.for_each(|line| take(line.unwrap()));
        assert!(!acknowledged.is_empty());
        check(dir.path(), &acknowledged).await;
    }
}

async fn check(dir: &Path, acknowledged: &[String]) {
    let engine = Engine::open(dir, options()).unwrap();
    let mut latest = 0;
    for line in acknowledged {
        let fields: Vec<_> = line.split(' ').collect();
        let (revision, key, value) = (fields[1].parse::<u64>().unwrap(), fields[2], fields[3]);
        latest = latest.max(revision);
        let now = &engine.range(Range::key(b(key))).await.unwrap().kvs[0];
        assert!(now.mod_revision >= revision, "{line} is lost");
        if now.mod_revision == revision {
            assert_eq!(now.value, value);
        }
    }
    assert!(engine.revision() >= latest);
    // The history is there as well, without a gap.
    let from = engine.revision() - 500.min(engine.revision() - 2);
    let mut watch = engine.watch(b(""), RangeEnd::Prefix, from).await.unwrap();
    for revision in from..=engine.revision() {
        assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
    }
    engine.close();
}
