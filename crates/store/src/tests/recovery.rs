//! Opening what an earlier process left: whole, torn, damaged, foreign, in use.

use std::sync::Arc;

use futures::StreamExt;

use super::{b, put, tiny, txn};
use crate::embedded::{Engine, OpenError, Options};
use crate::format::Format;
use crate::sim_disk::SimDisk;
use crate::writer::Writer;
use crate::{Condition, Range, RangeEnd, Store, StoreError, TxnResult};

fn fill(disk: &SimDisk, options: Options, writes: usize) -> Writer {
    fill_as(Format::CURRENT, disk, options, writes)
}

fn fill_as(format: Format, disk: &SimDisk, options: Options, writes: usize) -> Writer {
    let mut writer = Writer::open_to_write(Arc::new(disk.clone()), options, format).unwrap();
    for n in 0..writes {
        let value = format!("value {n}");
        writer.commit(vec![txn([put(&format!("k{}", n % 5), &value)])], 0)[0]
            .clone()
            .unwrap();
        if let Some(job) = writer.checkpoint_due() {
            let done = job.run(|| {});
            writer.checkpoint_done(done);
        }
    }
    writer
}

fn unbounded() -> Options {
    Options {
        history_revisions: 1000,
        ..tiny()
    }
}

fn open_error(disk: &SimDisk) -> String {
    match Writer::open(Arc::new(disk.clone()), tiny()) {
        Ok(_) => "opened".into(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn state_history_and_time_to_live_survive() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    for value in ["1", "2"] {
        engine.txn(txn([put("a", value)])).await.unwrap();
    }
    let hour = std::time::Duration::from_secs(3600);
    let lasting = crate::Op::Put {
        key: b("t"),
        value: b("x"),
        ttl: Some(hour),
    };
    engine.txn(txn([lasting])).await.unwrap();
    let before = engine.range(Range::prefix("")).await.unwrap();
    engine.close();
    assert_eq!(
        engine.range(Range::prefix("")).await.unwrap_err(),
        StoreError::Closed
    );
    assert_eq!(
        engine.txn(txn([put("a", "3")])).await.unwrap_err(),
        StoreError::Closed
    );

    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    assert_eq!(engine.range(Range::prefix("")).await.unwrap(), before);
    assert!(before.kvs[1].lease.is_some());
    let mut watch = engine.watch(b("a"), RangeEnd::Key, 2).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 2);
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 3);
    engine.close();
    assert_eq!(watch.next().await.unwrap().unwrap_err(), StoreError::Closed);
    assert!(watch.next().await.is_none());
}

#[test]
fn old_segments_and_checkpoints_go() {
    let disk = SimDisk::new(1);
    drop(fill(&disk, tiny(), 500));
    let names = crate::disk::Disk::list(&disk).unwrap();
    assert!(names.len() < 10, "{names:?}");
    assert!(
        names.iter().any(|name| name.starts_with("checkpoint-")),
        "{names:?}"
    );
    let writer = Writer::open(Arc::new(disk), tiny()).unwrap();
    assert_eq!(writer.published().revision(), 501);
    assert_eq!(
        writer
            .published()
            .read()
            .history
            .current(&b("k4"))
            .unwrap()
            .value,
        "value 499"
    );
}

#[test]
fn damage_is_an_error_that_names_the_place() {
    let disk = SimDisk::new(1);
    drop(fill(&disk, unbounded(), 4));
    let len = disk.len_of("wal-0000000000000001.log").unwrap();
    assert!(disk.damage("wal-0000000000000001.log", 60));
    let error = open_error(&disk);
    assert!(
        error.starts_with("sim:wal-0000000000000001.log is damaged at byte "),
        "{error}"
    );
    assert!(
        error.contains("restore the data directory from a backup"),
        "{error}"
    );

    // The last record as well: an unfinished write would look otherwise.
    let disk = SimDisk::new(1);
    drop(fill(&disk, unbounded(), 4));
    assert!(disk.damage("wal-0000000000000001.log", len - 3));
    let error = open_error(&disk);
    assert!(
        error.contains("not as an unfinished write would be"),
        "{error}"
    );
}

#[test]
fn every_bit_of_the_log_counts() {
    for format in [Format::Plain, Format::Marked] {
        let filled = || {
            let disk = SimDisk::new(1);
            drop(fill_as(format, &disk, unbounded(), 12));
            disk
        };
        let whole = filled();
        let names = crate::disk::Disk::list(&whole).unwrap();
        let logs: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("wal-"))
            .collect();
        assert!(logs.len() > 1, "{names:?}");
        for name in &logs {
            for offset in 0..whole.len_of(name).unwrap() {
                let disk = filled();
                disk.damage(name, offset);
                match Writer::open(Arc::new(disk), unbounded()) {
                    Err(OpenError::Damaged { .. }) => {}
                    Err(error) => panic!("{name} {offset}: {error}"),
                    Ok(_) => panic!("opened with damage in {name} at {offset}"),
                }
            }
        }
    }
}

const LOG: &str = "wal-0000000000000001.log";

fn in_one_segment() -> Options {
    Options {
        segment_bytes: 100_000,
        ..unbounded()
    }
}

/// Two faults at once: an unfinished write does not pass the rot before it off as its own.
#[test]
fn every_bit_before_an_unfinished_write_counts() {
    let large = "y".repeat(2000);
    for format in [Format::Plain, Format::Marked] {
        let (before, acknowledged) = {
            let disk = SimDisk::new(1);
            drop(fill_as(format, &disk, in_one_segment(), 3));
            let before = disk.len_of(LOG).unwrap();
            drop(fill_as(format, &disk, in_one_segment(), 1));
            (before, disk.len_of(LOG).unwrap())
        };
        let mut torn = 0;
        for seed in 0..40 {
            for offset in (before..before + 18).chain(acknowledged - 3..acknowledged) {
                let disk = SimDisk::new(seed);
                drop(fill_as(format, &disk, in_one_segment(), 3));
                let mut writer = fill_as(format, &disk, in_one_segment(), 1);
                disk.cut_power_after(1);
                let results = writer.commit(vec![txn([put("large", &large)])], 0);
                assert!(results[0].is_err());
                disk.restart();
                torn += usize::from(disk.len_of(LOG).unwrap() > acknowledged);
                assert!(disk.damage(LOG, offset));
                match Writer::open(Arc::new(disk), in_one_segment()) {
                    Err(OpenError::Damaged { .. }) => {}
                    Err(error) => panic!("seed {seed}, {offset}: {error}"),
                    Ok(_) => panic!("seed {seed}: opened with damage at {offset}"),
                }
            }
        }
        assert!(torn > 100, "{torn} writes left something behind");
    }
}

/// What clients store may look like sectors that were never written; it is not taken for it.
#[test]
fn rot_in_a_last_record_full_of_zeros_is_no_unfinished_write() {
    let zeros = "\0".repeat(3000);
    let filled = || {
        let disk = SimDisk::new(1);
        let mut writer = fill(&disk, in_one_segment(), 3);
        let before = disk.len_of(LOG).unwrap();
        let results = writer.commit(vec![txn([put("large", &zeros)])], 0);
        assert!(results[0].is_ok());
        (disk, before)
    };
    let (whole, before) = filled();
    let written = whole.contents(LOG).unwrap();
    for offset in before..written.len() {
        let (disk, _) = filled();
        assert!(disk.damage(LOG, offset));
        let error = open_error(&disk);
        let expected = "the last record is damaged, and not as an unfinished write would be";
        assert!(error.contains(expected), "{offset}: {error}");
    }
    // The same record, had the power been cut: any of its sectors missing.
    for missing in before / 512..written.len().div_ceil(512) {
        let (from, to) = (
            before.max(missing * 512),
            written.len().min((missing + 1) * 512),
        );
        let mut file = written.clone();
        file[from..to].fill(0);
        for file in [file.clone(), file[..from].to_vec()] {
            let (disk, _) = filled();
            let mut log = crate::disk::Disk::create(&disk, LOG).unwrap();
            log.append(&file).unwrap();
            let writer = Writer::open(Arc::new(disk), in_one_segment()).unwrap();
            assert_eq!(writer.published().revision(), 4, "sector {missing}");
        }
    }
}

fn format_of(disk: &SimDisk) -> String {
    String::from_utf8(disk.contents("FORMAT").unwrap()).unwrap()
}

/// A directory of the first format is read as it is, and the first write upgrades it.
#[test]
fn the_first_write_upgrades_a_directory() {
    let disk = SimDisk::new(1);
    drop(fill_as(Format::Plain, &disk, tiny(), 60));
    assert_eq!(format_of(&disk), "oxikube-store 1\n");
    let mut writer = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
    assert_eq!(writer.published().revision(), 61);
    assert_eq!(format_of(&disk), "oxikube-store 1\n");
    let results = writer.commit(vec![txn([put("new", "1")])], 0);
    assert!(results[0].is_ok());
    drop(writer);
    assert_eq!(format_of(&disk), "oxikube-store 2\n");
    let writer = fill(&disk, tiny(), 60);
    assert_eq!(writer.published().revision(), 122);
    let history = &writer.published().read().history;
    assert_eq!(history.current(&b("new")).unwrap().value, "1");
    // By and by nothing of the earlier format is left.
    let names = crate::disk::Disk::list(&disk).unwrap();
    let logs = names.iter().filter(|name| name.starts_with("wal-"));
    for log in logs {
        let bytes = disk.contents(log).unwrap();
        assert_eq!(&bytes[12..20], b"oxi-wal2", "{log}");
    }
}

/// The power is cut at every operation of the upgrade: the directory is of one format or the other, and whole.
#[test]
fn an_upgrade_survives_a_power_cut_anywhere() {
    let mut upgraded = [0, 0];
    for (seed, operations) in (0..20).flat_map(|seed| (1..12).map(move |cut| (seed, cut))) {
        let disk = SimDisk::new(seed);
        drop(fill_as(Format::Plain, &disk, tiny(), 7));
        let mut writer = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
        disk.cut_power_after(operations);
        let acknowledged = writer.commit(vec![txn([put("new", "1")])], 0)[0].is_ok();
        drop(writer);
        disk.restart();
        upgraded[usize::from(format_of(&disk) == "oxikube-store 2\n")] += 1;
        let mut writer = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
        let revision = writer.published().revision();
        assert!(
            revision == 9 || revision == 8 && !acknowledged,
            "{revision}"
        );
        let results = writer.commit(vec![txn([put("new", "2")])], 0);
        assert!(results[0].is_ok());
        assert_eq!(format_of(&disk), "oxikube-store 2\n");
    }
    assert!(upgraded[0] > 20 && upgraded[1] > 20, "{upgraded:?}");
}

/// Without room for the upgrade nothing is written, and it is made up for as soon as there is.
#[test]
fn a_full_disk_puts_an_upgrade_off() {
    let disk = SimDisk::new(1);
    drop(fill_as(Format::Plain, &disk, tiny(), 7));
    let names = crate::disk::Disk::list(&disk).unwrap();
    let used: usize = names.iter().filter_map(|name| disk.len_of(name)).sum();
    let mut writer = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
    for room in [0, 10, 20, 60, 100] {
        disk.set_capacity(Some(used + room));
        let results = writer.commit(vec![txn([put("new", &"x".repeat(100))])], 0);
        assert_eq!(results[0], Err(StoreError::NoSpace), "{room}");
        assert_eq!(writer.published().revision(), 8);
    }
    disk.set_capacity(None);
    assert!(writer.commit(vec![txn([put("new", "1")])], 0)[0].is_ok());
    drop(writer);
    let writer = Writer::open(Arc::new(disk), tiny()).unwrap();
    assert_eq!(writer.published().revision(), 9);
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let disk = SimDisk::new(1);
    drop(fill(&disk, tiny(), 200));
    let names = crate::disk::Disk::list(&disk).unwrap();
    let name = names
        .iter()
        .find(|name| name.starts_with("checkpoint-"))
        .unwrap();
    assert!(disk.damage(name, 70));
    let error = open_error(&disk);
    assert!(
        error.contains(name) && error.contains("the checkpoint is not sound"),
        "{error}"
    );
}

#[test]
fn a_missing_segment_is_an_error() {
    let disk = SimDisk::new(1);
    drop(fill(&disk, unbounded(), 30));
    crate::disk::Disk::remove(&disk, "wal-0000000000000002.log").unwrap();
    let error = open_error(&disk);
    assert!(
        error.contains("the segment before this one is missing"),
        "{error}"
    );
}

#[test]
fn a_directory_has_one_owner_and_one_format() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    let error = Engine::open(dir.path(), Options::default())
        .err()
        .unwrap()
        .to_string();
    let expected = format!(
        "the data directory {} is in use by process {}; stop that process first",
        dir.path().display(),
        std::process::id()
    );
    assert_eq!(error, expected);
    drop(engine);
    std::fs::write(dir.path().join("FORMAT"), "oxikube-store 9\n").unwrap();
    let error = Engine::open(dir.path(), Options::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("names the format \"oxikube-store 9\""),
        "{error}"
    );
    // Without the file that says what it is, data is not overwritten.
    std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
    std::fs::write(dir.path().join("wal-0000000000000001.log"), [1; 200]).unwrap();
    let error = Engine::open(dir.path(), Options::default()).err().unwrap();
    assert!(matches!(error, OpenError::Format { .. }), "{error}");
}

#[tokio::test]
async fn a_failed_sync_ends_all_writing_but_not_reading() {
    let disk = SimDisk::new(3);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    engine.txn(txn([put("a", "1")])).await.unwrap();
    disk.fail_sync_after(0);
    let expected = "the store takes no writes since an I/O error: syncing the log failed: \
                    simulated I/O error";
    let error = engine.txn(txn([put("a", "2")])).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    disk.restart();
    assert_eq!(engine.txn(txn([put("b", "1")])).await.unwrap_err(), error);
    assert_eq!(engine.compact(2).await.unwrap_err(), error);
    let read = engine.range(Range::prefix("")).await.unwrap();
    assert_eq!((read.kvs[0].value.as_ref(), read.revision), (&b"1"[..], 2));
    assert_eq!(engine.failure(), Some(error));
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new(3);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    engine.txn(txn([put("a", "1")])).await.unwrap();
    disk.set_capacity(Some(disk.len_of("wal-0000000000000001.log").unwrap() + 40));
    let large = "x".repeat(1000);
    assert_eq!(
        engine.txn(txn([put("a", &large)])).await.unwrap_err(),
        StoreError::NoSpace
    );
    assert_eq!(engine.revision(), 2);
    disk.set_capacity(None);
    let written = engine.txn(txn([put("a", &large)])).await.unwrap();
    assert!(matches!(written, TxnResult::Committed { revision: 3, .. }));
    engine.close();
    let engine = Engine::open_on(Arc::new(disk), Options::default()).unwrap();
    assert_eq!(
        engine.range(Range::key("a")).await.unwrap().kvs[0].value,
        large
    );
}

/// Whoever does not write to a server because it says that it takes no writes must learn that it does again.
#[test]
fn room_is_found_without_a_write() {
    let disk = SimDisk::new(3);
    let mut writer = fill(&disk, Options::default(), 1);
    disk.set_capacity(Some(0));
    let results = writer.commit(vec![txn([put("a", "1")])], 0);
    assert_eq!(results[0], Err(StoreError::NoSpace));
    // What a sync or a few bytes need does not count.
    for capacity in [Some(0), Some(5000), None] {
        disk.set_capacity(capacity);
        assert_eq!(writer.published().condition(), Condition::Full);
        writer.look_for_room();
    }
    assert_eq!(writer.published().condition(), Condition::Serving);
    let names = crate::disk::Disk::list(&disk).unwrap();
    assert!(
        !names.iter().any(|name| name.ends_with(".tmp")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_transaction_beyond_the_limit_is_refused() {
    let options = Options {
        max_txn_bytes: 100,
        ..Options::default()
    };
    let engine = Engine::open_on(Arc::new(SimDisk::new(1)), options).unwrap();
    let error = engine
        .txn(txn([put("a", &"x".repeat(100))]))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        StoreError::TooLarge {
            size: 117,
            limit: 100
        }
    );
}

#[test]
fn keys_that_cannot_be_removed_are_tried_again_later() {
    let disk = SimDisk::new(1);
    let mut writer = Writer::open(Arc::new(disk.clone()), Options::default()).unwrap();
    let ttl = Some(std::time::Duration::from_millis(10));
    let op = crate::Op::Put {
        key: b("a"),
        value: b(""),
        ttl,
    };
    writer.commit(vec![txn([op])], 0)[0].clone().unwrap();
    assert_eq!(writer.next_deadline(), Some(10));
    disk.set_capacity(Some(0));
    assert_eq!(writer.expire(10), Err(StoreError::NoSpace));
    assert_eq!(writer.next_deadline(), Some(5010));
    disk.set_capacity(None);
    assert_eq!(writer.expire(5010), Ok(()));
    assert_eq!(writer.next_deadline(), None);
    assert_eq!(writer.published().revision(), 3);
}
