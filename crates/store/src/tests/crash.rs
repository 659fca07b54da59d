//! Power cuts at every possible moment, on a disk that keeps only what it must.
//!
//! A model remembers what was acknowledged. After each restart the store must show exactly that,
//! or that and the whole of the one batch that was under way, and its history must be the
//! model's.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{b, delete, mod_revision, put, tiny, txn};
use crate::history::Commit;
use crate::sim_disk::{Dice, SimDisk};
use crate::watch::{Cursor, Look};
use crate::writer::Writer;
use crate::{EventKind, Op, RangeEnd, Revision, Txn, TxnResult};

type Changes = Vec<(Bytes, Option<Bytes>)>;

/// What was committed, by revision: the independent truth.
#[derive(Clone, Default)]
struct Model {
    commits: BTreeMap<Revision, Changes>,
    state: BTreeMap<Bytes, (Bytes, Revision)>,
}

impl Model {
    fn revision(&self) -> Revision {
        self.commits.keys().next_back().copied().unwrap_or(1)
    }

    /// Carries a transaction out as the contract says.
    fn apply(&mut self, txn: &Txn) -> Option<Revision> {
        let state = &self.state;
        for compare in &txn.compare {
            let crate::Compare::ModRevision { key, equals } = compare;
            if state.get(key).map_or(0, |(_, revision)| *revision) != *equals {
                return None;
            }
        }
        let changes: Changes = txn
            .success
            .iter()
            .filter_map(|op| match op {
                Op::Put { key, value, .. } => Some((key.clone(), Some(value.clone()))),
                Op::Delete { key } => state.contains_key(key).then(|| (key.clone(), None)),
            })
            .collect();
        if !changes.is_empty() {
            let revision = self.revision() + 1;
            for (key, value) in &changes {
                match value {
                    Some(value) => self.state.insert(key.clone(), (value.clone(), revision)),
                    None => self.state.remove(key),
                };
            }
            self.commits.insert(revision, changes);
        }
        Some(self.revision())
    }
}

fn random_txn(dice: &mut Dice, model: &Model, counter: &mut u64) -> Txn {
    let mut result = txn([]);
    for key in ["a", "b", "c/1", "c/2"] {
        if !dice.once_in(3) {
            continue;
        }
        *counter += 1;
        let filler = "x".repeat(dice.below(120) as usize);
        let op = if dice.once_in(4) {
            delete(key)
        } else {
            put(key, &format!("{counter}{filler}"))
        };
        result.success.push(op);
        if dice.once_in(4) {
            let right = model
                .state
                .get(key.as_bytes())
                .map_or(0, |(_, revision)| *revision);
            let equals = if dice.once_in(5) { right + 1 } else { right };
            result.compare.push(mod_revision(key, equals));
        }
    }
    result
}

/// The store is what the model says, now and as far back as it is readable.
fn check(writer: &Writer, model: &Model, dice: &mut Dice) {
    let published = writer.published();
    let inner = published.read();
    let history = &inner.history;
    assert_eq!(history.revision(), model.revision());
    let found: BTreeMap<_, _> = history
        .versions_at(b"", history.revision(), usize::MAX)
        .0
        .into_iter()
        .map(|(key, version)| (key, (version.value, version.mod_revision)))
        .collect();
    assert_eq!(found, model.state);
    let compacted = history.compacted();
    drop(inner);
    // A watch resumes anywhere after the compaction and misses nothing.
    let from = compacted + 1 + dice.below(model.revision() - compacted + 1);
    let cursor = Cursor::new(b(""), RangeEnd::Prefix, from);
    let mut seen = BTreeMap::new();
    while let Look::Batches(batches) = cursor.look(published) {
        for batch in batches {
            let changes = batch.events.iter().map(|event| {
                let value = (event.kind == EventKind::Put).then(|| event.kv.value.clone());
                (event.kv.key.clone(), value)
            });
            assert!(
                seen.insert(batch.revision, changes.collect::<Changes>())
                    .is_none()
            );
        }
    }
    let expected: BTreeMap<_, _> = model
        .commits
        .range(from..)
        .map(|(revision, changes)| (*revision, changes.clone()))
        .collect();
    assert_eq!(seen, expected);
}

/// Works until the power goes; the models are what was acknowledged and, after it, what that
/// becomes with the batch that was under way.
fn work(
    writer: &mut Writer,
    model: &mut Model,
    dice: &mut Dice,
    counter: &mut u64,
) -> Option<Model> {
    for _ in 0..40 {
        let mut attempt = model.clone();
        let mut expected = Vec::new();
        let mut txns = Vec::new();
        for _ in 0..1 + dice.below(3) {
            let next = random_txn(dice, &attempt, counter);
            expected.push(attempt.apply(&next));
            txns.push(next);
        }
        let results = writer.commit(txns, *counter * 1000);
        if results.iter().any(Result::is_err) {
            return Some(attempt);
        }
        for (result, expected) in results.into_iter().zip(expected) {
            match (result.unwrap(), expected) {
                (TxnResult::Committed { revision, .. }, Some(right)) => assert_eq!(revision, right),
                (TxnResult::Failed { .. }, None) => {}
                (result, expected) => panic!("{result:?} instead of {expected:?}"),
            }
        }
        *model = attempt;
        if dice.once_in(10) {
            // Refused only when the power is gone, which the next commit notices.
            let _ = writer.compact(
                model.revision() - dice.below(3).min(model.revision() - 1),
                0,
            );
        }
        if let Some(job) = writer.checkpoint_due() {
            let result = job.run();
            writer.checkpoint_done(job.revision, result);
        }
    }
    None
}

fn one_life(seed: u64) {
    let mut dice = Dice::new(seed);
    let disk = SimDisk::new(seed);
    let mut model = Model::default();
    let mut under_way: Option<Model> = None;
    let mut counter = 0;
    for _ in 0..5 {
        if dice.once_in(6) {
            disk.fail_sync_after(dice.below(20));
        } else {
            let most = if dice.once_in(3) { 15 } else { 120 };
            disk.cut_power_after(1 + dice.below(most));
        }
        match Writer::open(Arc::new(disk.clone()), tiny()) {
            Ok(mut writer) => {
                if let Some(attempt) = under_way.take()
                    && writer.published().revision() == attempt.revision()
                {
                    model = attempt;
                }
                check(&writer, &model, &mut dice);
                under_way = work(&mut writer, &mut model, &mut dice, &mut counter);
            }
            // The power went, or the disk failed, while the store was being opened.
            Err(crate::embedded::OpenError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // Sometimes only the process goes, and what it had not synced is still in the cache.
        if dice.once_in(4) {
            disk.restart_process()
        } else {
            disk.restart()
        }
    }
    disk.restart();
    let writer = Writer::open(Arc::new(disk), tiny()).unwrap();
    if let Some(attempt) = under_way
        && writer.published().revision() == attempt.revision()
    {
        model = attempt;
    }
    check(&writer, &model, &mut dice);
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..2000,
    };
    for seed in seeds {
        let life = std::panic::catch_unwind(|| one_life(seed));
        assert!(life.is_ok(), "run again with STORE_SEED={seed}");
    }
}

/// Nothing can be published that the log does not vouch for.
#[test]
#[should_panic(expected = "published before it is durable")]
fn publishing_ahead_of_the_log_is_a_bug() {
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new(1));
    let mut log = crate::wal::Log::create(disk, 1000, 1, 1).unwrap();
    let proof = log.sync().unwrap();
    let published = crate::published::Published::new(crate::history::History::empty());
    let batch = crate::Batch {
        revision: 2,
        events: Arc::new([]),
    };
    published.publish(vec![Commit { time_ms: 0, batch }], None, &proof);
}
