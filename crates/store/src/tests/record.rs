//! Laws of what stands in the log.

use bytes::Bytes;
use proptest::prelude::*;

use crate::history::event;
use crate::record::{
    BatchRecord, Change, Entry, put_batch_head, put_commit, put_compact, read_batch,
};
use crate::{Event, frame};

fn change() -> impl Strategy<Value = Change> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    prop_oneof![
        (bytes(20), bytes(300), any::<u64>()).prop_map(|(key, value, deadline)| Change::Put {
            key,
            value,
            deadline
        }),
        bytes(20).prop_map(|key| Change::Delete { key }),
    ]
}

fn event_of(revision: u64, change: &Change) -> Event {
    match change.clone() {
        Change::Put {
            key,
            value,
            deadline,
        } => event(revision, key, Some((value, deadline)), None),
        Change::Delete { key } => event(revision, key, None, None),
    }
}

proptest! {
    #[test]
    fn batches_survive_the_way_there_and_back(
        sequence: u64,
        time_ms: u64,
        commits in prop::collection::vec((any::<u64>(), prop::collection::vec(change(), 0..5)), 0..5),
        compact: Option<u64>,
        salt: u32,
    ) {
        let mut out = Vec::new();
        frame::write(&mut out, salt, |out| {
            put_batch_head(out, sequence, time_ms);
            for (revision, changes) in &commits {
                let events: Vec<_> = changes.iter().map(|change| event_of(*revision, change)).collect();
                put_commit(out, *revision, &events);
            }
            compact.iter().for_each(|revision| put_compact(out, *revision));
        });
        let payload = frame::parse(&out, 0, salt).expect("a sound frame");
        prop_assert_eq!(payload.end, out.len());
        prop_assert!(frame::parse(&out, 0, !salt).is_none());
        let entries = commits.into_iter().map(|(revision, changes)| Entry::Commit(revision, changes));
        let entries = entries.chain(compact.map(Entry::Compact)).collect();
        prop_assert_eq!(read_batch(&out[payload]), Some(BatchRecord { sequence, time_ms, entries }));
    }

    #[test]
    fn noise_is_no_batch_and_no_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_batch(&noise);
        prop_assert!(frame::parse(&noise, 0, 1).is_none());
    }
}
