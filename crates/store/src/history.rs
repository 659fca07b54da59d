//! Everything readable: each key's versions since the compaction, and the commits in order.
//!
//! Contract: a plain data structure without a lock, a clock or a disk. It holds published, that
//! is durable, transactions only; [`crate::published`] guards it.
//!
//! A key with one version, which is nearly every key of a quiet store, costs one entry of the
//! index and its two buffers.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use crate::index::Index;
use crate::{Batch, Event, EventKind, KeyValue, LeaseId, RangeEnd, Revision};

/// A key's state since one revision. `version` 0 is a deletion.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) mod_revision: Revision,
    pub(crate) create_revision: Revision,
    pub(crate) version: u64,
    /// 0 for none.
    pub(crate) lease: u64,
    pub(crate) value: Bytes,
}

impl Version {
    fn of(event: &Event) -> Version {
        Version {
            mod_revision: event.kv.mod_revision,
            create_revision: event.kv.create_revision,
            version: event.kv.version,
            lease: event.kv.lease.map_or(0, |lease| lease.0),
            value: event.kv.value.clone(),
        }
    }

    fn key_value(&self, key: &Bytes) -> Option<KeyValue> {
        (self.version > 0).then(|| KeyValue {
            key: key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: (self.lease > 0).then_some(LeaseId(self.lease)),
        })
    }
}

impl From<KeyValue> for Version {
    fn from(kv: KeyValue) -> Version {
        Version {
            mod_revision: kv.mod_revision,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease.map_or(0, |lease| lease.0),
            value: kv.value,
        }
    }
}

/// A key's versions, oldest first, never empty.
#[derive(Debug)]
pub(crate) enum Versions {
    One(Version),
    Many(Vec<Version>),
}

impl Versions {
    fn as_slice(&self) -> &[Version] {
        match self {
            Versions::One(version) => std::slice::from_ref(version),
            Versions::Many(versions) => versions,
        }
    }

    fn latest(&self) -> &Version {
        self.as_slice().last().expect("a key has a version")
    }

    /// The version that a reader at the revision sees.
    fn at(&self, revision: Revision) -> Option<&Version> {
        let versions = match self {
            Versions::One(version) => {
                return (version.mod_revision <= revision).then_some(version);
            }
            Versions::Many(versions) => versions,
        };
        let newer = versions.partition_point(|version| version.mod_revision <= revision);
        versions[..newer].last()
    }

    fn push(&mut self, version: Version) {
        match self {
            Versions::Many(versions) => versions.push(version),
            Versions::One(_) => {
                let Versions::One(first) =
                    std::mem::replace(self, Versions::Many(Vec::with_capacity(2)))
                else {
                    unreachable!("matched above");
                };
                let Versions::Many(versions) = self else {
                    unreachable!("replaced above")
                };
                versions.extend([first, version]);
            }
        }
    }
}

/// A published transaction.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) time_ms: u64,
    pub(crate) batch: Batch,
}

impl Commit {
    /// Roughly what its events keep in memory beyond the current state.
    fn weight(&self) -> usize {
        let values = |event: &Event| {
            200 + event.kv.key.len() + event.previous.as_ref().map_or(0, |kv| kv.value.len())
        };
        self.batch.events.iter().map(values).sum()
    }
}

/// A piece of a range.
#[derive(Default)]
pub(crate) struct Scanned {
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) count: usize,
    /// Where to go on, when the piece ended before the range did.
    pub(crate) next: Option<Bytes>,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct History {
    keys: Index<Versions>,
    /// The commits `swept + 1 ..= revision`.
    log: VecDeque<Commit>,
    log_weight: usize,
    state_bytes: usize,
    revision: Revision,
    compacted: Revision,
    swept: Revision,
}

impl History {
    /// Begins with the state at a revision, before which nothing is known.
    pub(crate) fn starting_at(revision: Revision) -> History {
        History {
            keys: Index::new(),
            log: VecDeque::new(),
            log_weight: 0,
            state_bytes: 0,
            revision,
            compacted: revision,
            swept: revision,
        }
    }

    /// An empty store: revision 1, and nothing compacted yet.
    pub(crate) fn empty() -> History {
        History {
            compacted: 0,
            ..History::starting_at(1)
        }
    }

    /// Takes the state to start with, in the order of the keys. After an error there is none.
    pub(crate) fn load<E>(
        &mut self,
        state: impl IntoIterator<Item = Result<(Bytes, Version), E>>,
    ) -> Result<(), E> {
        let mut bytes = 0;
        let state = state.into_iter().map(|entry| {
            let (key, version) = entry?;
            bytes += key.len() + version.value.len();
            Ok((key, Versions::One(version)))
        });
        self.keys = Index::sorted(state)?;
        self.state_bytes = bytes;
        Ok(())
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest readable state.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Bytes of all keys and values that are kept.
    pub(crate) fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// How many keys are kept, those deleted lately included.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// How many commits are kept, and roughly what they take.
    pub(crate) fn log_size(&self) -> (usize, usize) {
        (self.log.len(), self.log_weight)
    }

    /// A key's current state. What is returned shares the caller's key.
    pub(crate) fn current(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys.get(key)?.latest().key_value(key)
    }

    /// A key as it was at a revision. What is returned shares the caller's key.
    pub(crate) fn point(&self, key: &Bytes, revision: Revision) -> Option<KeyValue> {
        self.keys.get(key)?.at(revision)?.key_value(key)
    }

    /// The keys that have a lease, with it.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (u64, Bytes)> {
        self.keys.iter().filter_map(|(key, versions)| {
            let latest = versions.latest();
            (latest.version > 0 && latest.lease > 0).then(|| (latest.lease, key.clone()))
        })
    }

    /// Adds a transaction.
    pub(crate) fn apply(&mut self, commit: Commit) {
        assert_eq!(
            commit.batch.revision,
            self.revision + 1,
            "revisions grow by one"
        );
        self.revision = commit.batch.revision;
        for event in commit.batch.events.iter() {
            let version = Version::of(event);
            self.state_bytes += version.value.len();
            match self.keys.get_mut(&event.kv.key) {
                Some(versions) => versions.push(version),
                None => {
                    self.state_bytes += event.kv.key.len();
                    self.keys
                        .insert(event.kv.key.clone(), Versions::One(version));
                }
            }
        }
        self.log_weight += commit.weight();
        self.log.push_back(commit);
    }

    /// Gives the history before a revision up; [`History::sweep`] then frees it.
    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    /// Frees what compaction gave up: at most `budget` commits, and nothing that a reader at
    /// `keep` needs. Whether there is more to free.
    pub(crate) fn sweep(&mut self, keep: Revision, budget: usize) -> bool {
        let limit = self.compacted.min(keep);
        for _ in 0..budget {
            if self
                .log
                .front()
                .is_none_or(|commit| commit.batch.revision > limit)
            {
                return false;
            }
            let commit = self.log.pop_front().expect("looked at above");
            self.log_weight -= commit.weight();
            self.swept = commit.batch.revision;
            for event in commit.batch.events.iter() {
                self.prune(&event.kv.key, limit);
            }
        }
        true
    }

    /// Drops a key's versions that no reader at `limit` or later sees.
    fn prune(&mut self, key: &Bytes, limit: Revision) {
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        let slice = versions.as_slice();
        let older = slice.partition_point(|version| version.mod_revision <= limit);
        // The last of the older ones is the state at the limit; a deletion is no state.
        let dead = match older.checked_sub(1) {
            None => return,
            Some(last) if slice[last].version == 0 => older,
            Some(last) => last,
        };
        self.state_bytes -= slice[..dead]
            .iter()
            .map(|old| old.value.len())
            .sum::<usize>();
        if dead == slice.len() {
            self.state_bytes -= key.len();
            self.keys.remove(key);
            return;
        }
        if let Versions::Many(list) = versions {
            list.drain(..dead);
            if list.len() == 1 {
                let only = list.pop().expect("has one");
                *versions = Versions::One(only);
            }
        }
    }

    /// The commit with a revision, if it is still kept.
    pub(crate) fn commit(&self, revision: Revision) -> Option<&Commit> {
        let index = revision.checked_sub(self.swept + 1)?;
        self.log.get(usize::try_from(index).ok()?)
    }

    /// The revision to compact to so that the history stays within bounds: once it is twice as
    /// old as `age_ms` or larger than a limit, it is cut back to that age and half the limit.
    pub(crate) fn excess(
        &self,
        now_ms: u64,
        age_ms: u64,
        revisions: usize,
        weight: usize,
    ) -> Option<Revision> {
        let live = self
            .log
            .partition_point(|commit| commit.batch.revision <= self.compacted);
        let oldest = self.log.get(live)?;
        let count = self.log.len() - live;
        let too_old = oldest.time_ms + 2 * age_ms < now_ms;
        if !too_old && count <= revisions && self.log_weight <= weight {
            return None;
        }
        let mut target = self.compacted;
        let (mut left, mut left_weight) = (count, self.log_weight);
        for commit in self.log.iter().skip(live) {
            let old = commit.time_ms + age_ms < now_ms;
            let large = left > revisions / 2 || left_weight > weight / 2;
            if !(old || (large && !too_old)) {
                break;
            }
            target = commit.batch.revision;
            left -= 1;
            left_weight -= commit.weight();
        }
        (target > self.compacted).then_some(target)
    }

    /// Reads a piece of a range at a revision: visits at most `budget` keys and copies at most
    /// `want` of them.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        end: Bound<&[u8]>,
        revision: Revision,
        want: usize,
        budget: usize,
    ) -> Scanned {
        let mut scanned = Scanned::default();
        let empty = match end {
            Bound::Included(end) => end < from,
            Bound::Excluded(end) => end <= from,
            Bound::Unbounded => false,
        };
        if empty {
            return scanned;
        }
        let keys = self.keys.range(from, end);
        for (visited, (key, versions)) in keys.enumerate() {
            if visited == budget {
                scanned.next = Some(key.clone());
                break;
            }
            let Some(version) = versions.at(revision).filter(|found| found.version > 0) else {
                continue;
            };
            scanned.count += 1;
            if scanned.kvs.len() < want {
                scanned.kvs.extend(version.key_value(key));
            }
        }
        scanned
    }

    /// The raw versions at a revision, a piece at a time, for a checkpoint.
    pub(crate) fn versions_at(
        &self,
        from: &[u8],
        revision: Revision,
        budget: usize,
    ) -> (Vec<(Bytes, Version)>, Option<Bytes>) {
        let mut found = Vec::new();
        for (visited, (key, versions)) in self.keys.range(from, Bound::Unbounded).enumerate() {
            if visited == budget {
                return (found, Some(key.clone()));
            }
            if let Some(version) = versions.at(revision).filter(|found| found.version > 0) {
                found.push((key.clone(), version.clone()));
            }
        }
        (found, None)
    }
}

/// The upper bound that a range has.
pub(crate) fn upper_bound<'a>(
    start: &'a [u8],
    end: &'a RangeEnd,
    scratch: &'a mut Vec<u8>,
) -> Bound<&'a [u8]> {
    match end {
        RangeEnd::Key => Bound::Included(start),
        RangeEnd::Before(end) => Bound::Excluded(end),
        RangeEnd::Open => Bound::Unbounded,
        RangeEnd::Prefix => {
            // The first key that no longer has the prefix: the last byte below 255, plus one.
            let Some(last) = start.iter().rposition(|&byte| byte < 0xff) else {
                return Bound::Unbounded;
            };
            scratch.extend_from_slice(&start[..=last]);
            scratch[last] += 1;
            Bound::Excluded(scratch)
        }
    }
}

/// Builds the event of one change from the key's state before it.
pub(crate) fn event(
    revision: Revision,
    key: Bytes,
    put: Option<(Bytes, u64)>,
    previous: Option<KeyValue>,
) -> Event {
    let kind = if put.is_some() {
        EventKind::Put
    } else {
        EventKind::Delete
    };
    let kv = match put {
        Some((value, deadline)) => KeyValue {
            key,
            value,
            create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: (deadline > 0).then_some(LeaseId(deadline)),
        },
        None => KeyValue {
            key,
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            lease: None,
        },
    };
    Event { kind, kv, previous }
}
