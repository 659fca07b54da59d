//! What the transactions of one batch make of the state, before any of it is written.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use crate::history::{Commit, History, event, upper_bound};
use crate::{
    Batch, Compare, EventKind, KeyValue, Op, RangeEnd, Revision, StoreError, Txn, TxnResult,
};

/// The state that transactions of one batch see: the published one and what those before them
/// are about to make of it.
pub(crate) struct Stage<'a> {
    history: &'a History,
    changed: HashMap<Bytes, Option<KeyValue>>,
    revision: Revision,
    /// What is to be written, in order.
    pub(crate) commits: Vec<Commit>,
    now_ms: u64,
    max_txn_bytes: usize,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(history: &'a History, now_ms: u64, max_txn_bytes: usize) -> Stage<'a> {
        Stage {
            history,
            changed: HashMap::new(),
            revision: history.revision(),
            commits: Vec::new(),
            now_ms,
            max_txn_bytes,
        }
    }

    fn current(&self, key: &Bytes) -> Option<KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.history.current(key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::ModRevision { key, equals } => {
                self.current(key).map_or(0, |kv| kv.mod_revision) == *equals
            }
            Compare::NotNewer {
                start,
                end,
                revision,
            } => self.not_newer(start, end, *revision),
        }
    }

    fn not_newer(&self, start: &Bytes, end: &RangeEnd, revision: Revision) -> bool {
        let newer =
            |kv: &Option<KeyValue>| kv.as_ref().is_some_and(|kv| kv.mod_revision > revision);
        let staged = |key: &Bytes| end.contains(start, key);
        if self
            .changed
            .iter()
            .any(|(key, state)| staged(key) && newer(state))
        {
            return false;
        }
        let mut scratch = Vec::new();
        let end = upper_bound(start, end, &mut scratch);
        let found = self
            .history
            .scan(start, end, self.history.revision(), usize::MAX, usize::MAX);
        found
            .kvs
            .iter()
            .all(|kv| kv.mod_revision <= revision || self.changed.contains_key(&kv.key))
    }

    pub(crate) fn evaluate(&mut self, txn: Txn) -> Result<TxnResult, StoreError> {
        validate(&txn, self.max_txn_bytes)?;
        if !txn.compare.iter().all(|compare| self.holds(compare)) {
            let current = txn
                .failure_read
                .iter()
                .map(|key| self.current(key))
                .collect();
            return Ok(TxnResult::Failed {
                current,
                revision: self.revision,
            });
        }
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let mut all_previous = Vec::with_capacity(txn.success.len());
        for op in txn.success {
            let previous = self.current(op.key());
            all_previous.push(previous.clone());
            match op {
                Op::Put { key, value, ttl } => {
                    let deadline = ttl.map_or(0, |ttl| deadline(self.now_ms, ttl));
                    events.push(event(revision, key, Some((value, deadline)), previous));
                }
                Op::PutLeased { key, value, lease } => {
                    events.push(event(revision, key, Some((value, lease.0)), previous));
                }
                Op::Delete { .. } if previous.is_none() => {}
                Op::Delete { key } => events.push(event(revision, key, None, previous)),
            }
        }
        if !events.is_empty() {
            self.revision = revision;
            for event in &events {
                let state = (event.kind == EventKind::Put).then(|| event.kv.clone());
                self.changed.insert(event.kv.key.clone(), state);
            }
            let batch = Batch {
                revision,
                events: events.into(),
            };
            self.commits.push(Commit {
                time_ms: self.now_ms,
                batch,
            });
        }
        Ok(TxnResult::Committed {
            revision: self.revision,
            previous: all_previous,
        })
    }
}

/// When a key goes away, rounded up so that keys of the same kind go together.
pub(crate) fn deadline(now_ms: u64, ttl: Duration) -> u64 {
    let ttl_ms = u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, u64::MAX >> 2);
    (now_ms + ttl_ms).next_multiple_of((ttl_ms / 60).max(1))
}

/// Refuses what no engine carries out.
pub(crate) fn validate(txn: &Txn, limit: usize) -> Result<(), StoreError> {
    let size = size_of(txn);
    if size > limit {
        return Err(StoreError::TooLarge { size, limit });
    }
    let mut keys = HashSet::new();
    for op in &txn.success {
        if let Op::PutLeased { lease, .. } = op
            && !lease.is_named()
        {
            return Err(StoreError::Invalid("a lease must have a name"));
        }
        if op.key().is_empty() {
            return Err(StoreError::Invalid("a key must not be empty"));
        }
        if txn.success.len() > 1 && !keys.insert(op.key()) {
            return Err(StoreError::Invalid(
                "a key must not be changed twice in a transaction",
            ));
        }
    }
    Ok(())
}

/// The bytes that a transaction brings along.
pub(crate) fn size_of(txn: &Txn) -> usize {
    let op = |op: &Op| match op {
        Op::Put { key, value, .. } | Op::PutLeased { key, value, .. } => {
            key.len() + value.len() + 16
        }
        Op::Delete { key } => key.len() + 16,
    };
    txn.success.iter().map(op).sum()
}
