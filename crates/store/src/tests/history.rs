//! The bounds of the history, and that a state of a million keys is lean enough.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;

use super::{b, put, txn};
use crate::embedded::{Engine, Options};
use crate::history::{History, Version};
use crate::sim_disk::SimDisk;
use crate::writer::Writer;
use crate::{Range, Store, StoreError};

fn writer(options: Options) -> Writer {
    Writer::open(std::sync::Arc::new(SimDisk::new(7)), options).unwrap()
}

fn bounds(writer: &Writer) -> (u64, u64) {
    let inner = writer.published().read();
    (inner.history.compacted(), inner.history.revision())
}

#[test]
fn history_is_bounded_by_age() {
    let mut writer = writer(Options {
        history_age: Duration::from_secs(300),
        ..Options::default()
    });
    for minute in 0..30 {
        writer.commit(vec![txn([put("a", "x")])], minute * 60_000)[0]
            .clone()
            .unwrap();
        let (compacted, revision) = bounds(&writer);
        assert!(revision - compacted <= 12, "{compacted} {revision}");
        assert!(
            minute < 5 || revision - compacted >= 5,
            "{compacted} {revision}"
        );
    }
}

/// Nobody writes, and yet the past is not for ever: whoever reads it learns that it is gone.
#[tokio::test]
async fn history_grows_old_without_writes() {
    let options = Options {
        history_age: Duration::from_millis(20),
        ..Options::default()
    };
    let engine = Engine::open_on(std::sync::Arc::new(SimDisk::new(7)), options).unwrap();
    for value in ["x", "y"] {
        engine.txn(txn([put("a", value)])).await.unwrap();
    }
    let read = |revision| {
        engine.range(Range {
            revision: Some(revision),
            ..Range::key(b("a"))
        })
    };
    let error = loop {
        if let Err(error) = read(2).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(
        matches!(error, StoreError::Compacted { requested: 2, .. }),
        "{error}"
    );
    assert!(read(3).await.is_ok());
}

#[test]
fn history_is_bounded_by_number_and_by_size() {
    let mut few = writer(Options {
        history_revisions: 10,
        ..Options::default()
    });
    let mut small = writer(Options {
        history_bytes: 20_000,
        ..Options::default()
    });
    for _ in 0..200 {
        few.commit(vec![txn([put("a", "x")])], 0)[0]
            .clone()
            .unwrap();
        small.commit(vec![txn([put("a", &"x".repeat(1000))])], 0)[0]
            .clone()
            .unwrap();
    }
    let (compacted, revision) = bounds(&few);
    assert!(
        (5..=11).contains(&(revision - compacted)),
        "{compacted} {revision}"
    );
    let (compacted, revision) = bounds(&small);
    assert!(
        (5..=18).contains(&(revision - compacted)),
        "{compacted} {revision}"
    );
    assert!(small.published().read().history.state_bytes() < 20_000);
}

#[test]
fn a_quiet_key_is_lean() {
    // What the index holds for a key with one version, apart from the two buffers.
    assert!(std::mem::size_of::<(Bytes, Version)>() <= 96);
    let mut history = History::empty();
    let state = (0..10u32).map(|n| {
        let version = Version {
            mod_revision: 1,
            create_revision: 1,
            version: 1,
            lease: 0,
            value: Bytes::from(vec![0; 100]),
        };
        Ok::<_, Infallible>((Bytes::from(n.to_be_bytes().to_vec()), version))
    });
    let Ok(()) = history.load(state);
    assert_eq!(history.state_bytes(), 1040);
}

/// Also while a checkpoint is written beside the one before it, which is when there is most.
#[test]
fn files_stay_within_three_times_the_live_data_and_the_history() {
    const KEYS: usize = 300;
    const REVISIONS: usize = 500;
    const VALUE: usize = 1000;
    let options = Options {
        segment_bytes: 32 << 10,
        checkpoint_bytes: 64 << 10,
        checkpoint_chunk_bytes: 16 << 10,
        history_revisions: REVISIONS,
        ..Options::default()
    };
    // What is small beside the live data in life: segments that are begun, and writes beside a checkpoint.
    let slack = 3 * options.segment_bytes as usize + 2 * options.checkpoint_bytes as usize;
    let disk = SimDisk::new(7);
    let mut writer = Writer::open(std::sync::Arc::new(disk.clone()), options).unwrap();
    let (mut job, mut checkpoints) = (None, 0);
    for n in 0..20 * KEYS {
        let key = format!("key-{:04}", n * 7 % KEYS);
        let value = format!("{n:04}").repeat(VALUE / 4);
        writer.commit(vec![txn([put(&key, &value)])], 0)[0]
            .clone()
            .unwrap();
        let running = job.take().or_else(|| writer.checkpoint_due());
        job = running.and_then(|mut running| match running.step() {
            Ok(true) => Some(running),
            ended => {
                checkpoints += 1;
                writer.checkpoint_done(running.done(ended.map(drop)));
                None
            }
        });
        let names = crate::disk::Disk::list(&disk).unwrap();
        let files: usize = names.iter().filter_map(|name| disk.len_of(name)).sum();
        let live = KEYS.min(n + 1) * (VALUE + 40);
        let history = REVISIONS.min(n + 1) * (VALUE + 60);
        let most = 3 * live + history + slack;
        assert!(
            files <= most,
            "{files} bytes of {most} after {n}: {names:?}"
        );
    }
    assert!(checkpoints > 5, "{checkpoints}");
}
