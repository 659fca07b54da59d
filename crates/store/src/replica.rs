//! What a store that is elsewhere looks like from here: its keys and history, followed closely.
//!
//! Contract: for engines whose data another process keeps. The engine fills a replica from one
//! state and then hands it every transaction in order; reads, watches, bookmarks and bounds of
//! the history are then the embedded engine's own. The engine vouches that what it hands over is
//! durable.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;

use crate::history::{Commit, History, Version};
use crate::published::Published;
use crate::wal::Durable;
use crate::watch::watch;
use crate::{
    Batch, Event, KeyValue, Range, RangeEnd, RangeResult, Revision, StoreError, Txn, WatchStream,
};

/// A copy of a store. Clones are the same copy.
#[derive(Clone)]
pub struct Replica(Arc<Published>);

/// One change of a transaction that took place elsewhere.
#[derive(Clone, Debug)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its state, unless it was removed.
    pub now: Option<KeyValue>,
}

/// How much history a replica keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For at least this time, as long as the others allow it.
    pub age_ms: u64,
    /// At most so many revisions.
    pub revisions: usize,
    /// About so much memory.
    pub bytes: usize,
}

impl Replica {
    /// The state at a revision; `kvs` in the order of their keys.
    pub fn new(revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) -> Replica {
        Replica(Published::new(history(revision, kvs)))
    }

    /// The state at a later revision, when what happened in between is not known any more.
    /// Watches that have not come to it end with [`StoreError::Compacted`].
    pub fn replace(&self, revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) {
        self.0.replace(history(revision, kvs));
    }

    /// Takes the next transaction. False when it is not the next one: then something was missed.
    pub fn apply(
        &self,
        revision: Revision,
        changes: Vec<Change>,
        now_ms: u64,
        keep: Bounds,
    ) -> bool {
        let (events, compact) = {
            let inner = self.0.read();
            let history = &inner.history;
            if revision != history.revision() + 1 {
                return false;
            }
            let events: Arc<[Event]> = changes
                .into_iter()
                .map(|change| event(revision, change, history))
                .collect();
            let excess = history.excess(now_ms, keep.age_ms, keep.revisions, keep.bytes);
            (events, excess)
        };
        let batch = Batch { revision, events };
        let commit = Commit {
            time_ms: now_ms,
            batch,
        };
        let proof = Durable::vouched(revision);
        self.0.publish(vec![commit], compact, &proof);
        true
    }

    /// Forgets the history before a revision.
    pub fn compact(&self, revision: Revision) {
        let proof = Durable::vouched(self.revision());
        self.0.publish(Vec::new(), Some(revision), &proof);
        while self.0.sweep() {}
    }

    /// Ends all watches and answers no read any more.
    pub fn close(&self) {
        self.0.close();
    }

    /// The revision that it has come to.
    pub fn revision(&self) -> Revision {
        self.0.revision()
    }

    /// Reads keys.
    pub async fn range(&self, range: &Range) -> Result<RangeResult, StoreError> {
        self.0.range(range, tokio::task::yield_now).await
    }

    /// Begins a watch.
    pub fn watch(
        &self,
        start: Bytes,
        end: RangeEnd,
        from: Revision,
    ) -> Result<WatchStream, StoreError> {
        watch(&self.0, start, end, from)
    }
}

/// Refuses a transaction that no engine carries out.
pub fn validate(txn: &Txn) -> Result<(), StoreError> {
    crate::stage::validate(txn, usize::MAX)
}

fn history(revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) -> History {
    let mut history = match revision {
        0 | 1 => History::empty(),
        _ => History::starting_at(revision),
    };
    let state = kvs
        .into_iter()
        .map(|kv| Ok::<_, Infallible>((kv.key.clone(), Version::from(kv))));
    let Ok(()) = history.load(state);
    history
}

fn event(revision: Revision, change: Change, history: &History) -> Event {
    let previous = history.current(&change.key);
    let put = change.now.as_ref().map(|kv| {
        let lease = kv.lease.map_or(0, |lease| lease.0);
        (kv.value.clone(), lease)
    });
    let mut event = crate::history::event(revision, change.key, put, previous);
    if let Some(now) = change.now {
        event.kv = now;
    }
    event
}
