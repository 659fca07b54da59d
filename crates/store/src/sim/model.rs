//! What the store should be: the same contract in a few obvious lines.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::stage::deadline;
use crate::{Compare, Op, Revision, Txn};

/// What one transaction did, by key; `None` is a removal.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// A key's value, the revision of it, and when it goes away (0: never).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Bytes,
    pub(super) revision: Revision,
    pub(super) deadline: u64,
}

/// Everything that was committed: the independent truth.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) commits: BTreeMap<Revision, Changes>,
    pub(super) now: State,
}

/// The state at the end of it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) keys: BTreeMap<Bytes, Held>,
    pub(super) revision: Revision,
}

/// What a batch would make of a model.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) commits: Vec<(Revision, Changes)>,
    pub(super) now: State,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            commits: BTreeMap::new(),
            now: State {
                keys: BTreeMap::new(),
                revision: 1,
            },
        }
    }

    pub(super) fn attempt(&self) -> Attempt {
        Attempt {
            commits: Vec::new(),
            now: self.now.clone(),
        }
    }

    pub(super) fn adopt(&mut self, attempt: Attempt) {
        self.commits.extend(attempt.commits);
        self.now = attempt.now;
    }

    /// Keys and values at a revision.
    pub(super) fn at(&self, revision: Revision) -> BTreeMap<Bytes, Bytes> {
        let mut state = BTreeMap::new();
        for changes in self.commits.range(..=revision).map(|(_, changes)| changes) {
            for (key, value) in changes {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }
}

impl Attempt {
    /// Carries a transaction out as the contract says: the revision, or nothing when a condition
    /// does not hold.
    pub(super) fn apply(&mut self, txn: &Txn, now_ms: u64) -> Option<Revision> {
        if !txn.compare.iter().all(|compare| self.holds(compare)) {
            return None;
        }
        let mut changes = Changes::new();
        for op in &txn.success {
            match op {
                Op::Put { key, value, .. } | Op::PutLeased { key, value, .. } => {
                    changes.insert(key.clone(), Some(value.clone()));
                }
                Op::Delete { key } if self.now.keys.contains_key(key) => {
                    changes.insert(key.clone(), None);
                }
                Op::Delete { .. } => {}
            }
        }
        if !changes.is_empty() {
            let deadline_of = |key: &Bytes| {
                txn.success.iter().find_map(|op| match op {
                    Op::Put {
                        key: other,
                        ttl: Some(ttl),
                        ..
                    } if other == key => Some(deadline(now_ms, *ttl)),
                    _ => None,
                })
            };
            self.now.revision += 1;
            for (key, value) in &changes {
                match value {
                    Some(value) => {
                        let held = Held {
                            value: value.clone(),
                            revision: self.now.revision,
                            deadline: deadline_of(key).unwrap_or(0),
                        };
                        self.now.keys.insert(key.clone(), held)
                    }
                    None => self.now.keys.remove(key),
                };
            }
            self.commits.push((self.now.revision, changes));
        }
        Some(self.now.revision)
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::ModRevision { key, equals } => {
                self.now.keys.get(key).map_or(0, |held| held.revision) == *equals
            }
            Compare::NotNewer {
                start,
                end,
                revision,
            } => self
                .now
                .keys
                .iter()
                .filter(|(key, _)| end.contains(start, key))
                .all(|(_, held)| held.revision <= *revision),
        }
    }

    /// Removes the keys whose time is over.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let over = |held: &Held| held.deadline > 0 && held.deadline <= now_ms;
        let changes: Changes = self
            .now
            .keys
            .iter()
            .filter(|(_, held)| over(held))
            .map(|(key, _)| (key.clone(), None))
            .collect();
        if !changes.is_empty() {
            self.now.revision += 1;
            self.now.keys.retain(|_, held| !over(held));
            self.commits.push((self.now.revision, changes));
        }
    }
}
