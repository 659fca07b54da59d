//! The bounds of the history, and that a state of a million keys is lean enough.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;

use super::{put, txn};
use crate::embedded::Options;
use crate::history::{History, Version};
use crate::sim_disk::SimDisk;
use crate::writer::Writer;

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
