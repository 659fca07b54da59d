//! The embedded engine in a world that wants to break it, one seed a life.
//!
//! Test support, for this crate's tests and for `cargo xtask sim store`. The engine's state
//! machine runs, without threads, on [`SimDisk`] and its clock; checkpoints go on beside writes.
//! A model remembers what was acknowledged. Power is cut and processes are killed at every
//! operation, unsynced writes are lost in part and in any order, syncs fail or take seconds,
//! writes fail halfway, the disk fills up, turns read-only, rots. After each restart the store must
//! show exactly what was acknowledged, or that and the whole of the one batch that was under way,
//! with its history; or refuse to open, and only when bits rotted. Some lives begin under an earlier
//! release, whose directory is upgraded in whatever state it was left.

mod model;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::checkpoint::Job;
use crate::disk::Disk;
use crate::embedded::{OpenError, Options};
use crate::format::Format;
use crate::sim_disk::{Dice, SimDisk};
use crate::watch::{Cursor, Look};
use crate::writer::Writer;
use crate::{Compare, Condition, EventKind, Op, RangeEnd, Revision, StoreError, Txn, TxnResult};
use model::{Attempt, Changes, Model};

/// The store at rest, for a second opinion on the files.
pub struct Sight<'a> {
    /// Its disk.
    pub disk: &'a SimDisk,
    /// The revision that it is at.
    pub revision: Revision,
    /// All keys and values.
    pub state: &'a BTreeMap<Bytes, Bytes>,
}

/// What happened over many lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Transactions acknowledged.
    pub acknowledged: u64,
    /// Restarts after a cut of the power, a kill or a failure.
    pub restarts: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Times that rotten bits were found, and serving refused.
    pub damage_found: u64,
    /// Times that the disk was full, and was not later on.
    pub full: u64,
    /// Directories of an earlier format that were upgraded.
    pub upgrades: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.acknowledged += other.acknowledged;
        self.restarts += other.restarts;
        self.checkpoints += other.checkpoints;
        self.damage_found += other.damage_found;
        self.full += other.full;
        self.upgrades += other.upgrades;
    }
}

/// A seed whose life did not go as it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Run it again with this.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
}

/// Lives the lives of all seeds. `inspect` looks at the files after each restart and panics when
/// they are not what the sight says.
pub fn run(seeds: Range<u64>, mut inspect: impl FnMut(&Sight<'_>)) -> Result<Tally, Broken> {
    let mut tally = Tally::default();
    for seed in seeds {
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut life = Life::new(seed, &mut inspect);
            life.live();
            life.tally
        }));
        match lived {
            Ok(of_one) => tally.add(of_one),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                let what = text.unwrap_or_else(|| "a panic without words".into());
                return Err(Broken { seed, what });
            }
        }
    }
    Ok(tally)
}

/// Everything so small that a few writes set off what takes hours in life.
fn tiny() -> Options {
    Options {
        segment_bytes: 400,
        checkpoint_bytes: 600,
        checkpoint_chunk_bytes: 100,
        history_revisions: 8,
        ..Options::default()
    }
}

/// What kind of life it is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Sessions at the beginning that an earlier release has.
    old_sessions: usize,
    /// Values that hold whole sectors of zeros, and segments with room for some of them.
    has_zeros: bool,
}

impl Kind {
    fn of(dice: &mut Dice) -> Kind {
        Kind {
            old_sessions: match dice.below(8) {
                // The whole life, so that what is still read goes on being tried.
                0 => SESSIONS,
                1 | 2 => 1 + dice.below(SESSIONS as u64 - 1) as usize,
                _ => 0,
            },
            has_zeros: dice.once_in(2),
        }
    }

    fn options(self, writes: Format) -> Options {
        match self.has_zeros && writes != Format::Plain {
            true => Options {
                segment_bytes: 6000,
                checkpoint_bytes: 9000,
                checkpoint_chunk_bytes: 1500,
                ..tiny()
            },
            false => tiny(),
        }
    }
}

const KEYS: [&str; 5] = ["a", "b", "c/1", "c/2", "t"];
const SESSIONS: usize = 5;
const BATCHES: usize = 40;

struct Life<'a> {
    dice: Dice,
    disk: SimDisk,
    model: Model,
    /// What the batch whose outcome is not known would make of the model.
    under_way: Option<Attempt>,
    counter: u64,
    kind: Kind,
    /// What the release of the present session writes.
    writes: Format,
    tally: Tally,
    inspect: &'a mut dyn FnMut(&Sight<'_>),
}

/// How a session ended.
enum End {
    /// All went well to the end.
    Idle,
    /// The engine takes no writes any more.
    Failed,
}

impl<'a> Life<'a> {
    fn new(seed: u64, inspect: &'a mut dyn FnMut(&Sight<'_>)) -> Life<'a> {
        let mut dice = Dice::new(seed);
        Life {
            kind: Kind::of(&mut dice),
            writes: Format::CURRENT,
            dice,
            disk: SimDisk::new(seed),
            model: Model::new(),
            under_way: None,
            counter: 0,
            tally: Tally::default(),
            inspect,
        }
    }

    fn live(&mut self) {
        for session in 0..SESSIONS {
            let is_old = session < self.kind.old_sessions;
            let was_old = self.writes == Format::Plain;
            self.writes = match is_old {
                true => Format::Plain,
                false => Format::CURRENT,
            };
            self.tally.upgrades += u64::from(was_old && !is_old);
            self.plan_faults();
            self.session();
            // Sometimes only the process goes, and what it had not synced is still in the cache.
            if self.dice.once_in(4) {
                self.disk.restart_process();
            } else {
                self.disk.restart();
            }
            self.tally.restarts += 1;
            if self.dice.once_in(6) {
                self.rot();
            }
        }
        self.disk.restart();
        let writer = self.open().expect("the disk is well");
        self.check(&writer);
        self.inspect_files(&writer);
    }

    fn plan_faults(&mut self) {
        match self.dice.below(10) {
            0 => self.disk.fail_sync_after(self.dice.below(20)),
            1 => self.disk.fail_write_after(self.dice.below(30)),
            2 => self.disk.slow_syncs(Some(5)),
            3 => {}
            most => {
                let most = if most < 6 { 15 } else { 160 };
                self.disk.cut_power_after(1 + self.dice.below(most));
            }
        }
    }

    fn open_writer(&self) -> Result<Writer, OpenError> {
        let options = self.kind.options(self.writes);
        Writer::open_to_write(Arc::new(self.disk.clone()), options, self.writes)
    }

    fn open(&mut self) -> Option<Writer> {
        match self.open_writer() {
            Ok(writer) => {
                let found = writer.published().revision();
                if let Some(attempt) = self.under_way.take()
                    && found == attempt.now.revision
                {
                    self.model.adopt(attempt);
                }
                Some(writer)
            }
            // The power went, or the disk failed, while the store was being opened.
            Err(OpenError::Io { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// One process: from opening to whatever ends it.
    fn session(&mut self) {
        let Some(mut writer) = self.open() else {
            return;
        };
        self.check(&writer);
        let mut checkpoint = None;
        for _ in 0..BATCHES {
            let end = self.batch(&mut writer);
            if matches!(end, End::Failed) {
                self.check_failed(&writer);
                return;
            }
            self.checkpoint_steps(&mut writer, &mut checkpoint);
            if self.dice.once_in(10) {
                let back = self.dice.below(3).min(self.model.now.revision - 1);
                // Refused only when the disk failed, which the next batch notices.
                let _ = writer.compact(self.model.now.revision - back, self.disk.clock_ms());
            }
            match self.dice.below(60) {
                0 => self.fill_up(&mut writer),
                1 => self.disk.set_read_only(true),
                _ => {}
            }
        }
        // A checkpoint that is under way goes down with the process.
    }

    fn expire(&mut self, writer: &mut Writer) -> End {
        let now = self.disk.clock_ms();
        if writer.next_deadline().is_none_or(|deadline| deadline > now) {
            return End::Idle;
        }
        let mut attempt = self.model.attempt();
        attempt.expire(now);
        match writer.expire(now) {
            Ok(()) => {
                self.model.adopt(attempt);
                End::Idle
            }
            Err(StoreError::NoSpace) => End::Idle,
            Err(_) => {
                self.under_way = Some(attempt);
                End::Failed
            }
        }
    }

    fn batch(&mut self, writer: &mut Writer) -> End {
        if writer.published().failure().is_some() {
            // Met before, by a batch that is remembered, a compaction or a checkpoint.
            return End::Failed;
        }
        if let End::Failed = self.expire(writer) {
            return End::Failed;
        }
        let now = self.disk.clock_ms();
        let mut attempt = self.model.attempt();
        let (mut txns, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.dice.below(3) {
            let next = self.random_txn(&attempt);
            expected.push(attempt.apply(&next, now));
            txns.push(next);
        }
        let results = writer.commit(txns, now);
        if results.iter().any(Result::is_err) {
            let refused = results.iter().all(|r| *r == Err(StoreError::NoSpace));
            if refused {
                assert_eq!(writer.published().condition(), Condition::Full);
                return End::Idle;
            }
            self.under_way = Some(attempt);
            return End::Failed;
        }
        assert_eq!(writer.published().revision(), attempt.now.revision);
        self.tally.acknowledged += results.len() as u64;
        for (result, expected) in results.into_iter().zip(expected) {
            match (result, expected) {
                (Ok(TxnResult::Committed { revision, .. }), Some(right)) => {
                    assert_eq!(revision, right);
                }
                (Ok(TxnResult::Failed { .. }), None) => {}
                (result, expected) => panic!("{result:?} instead of {expected:?}"),
            }
        }
        self.model.adopt(attempt);
        End::Idle
    }

    fn checkpoint_steps(&mut self, writer: &mut Writer, running: &mut Option<Job>) {
        if running.is_none() {
            *running = if self.dice.once_in(20) {
                writer.checkpoint()
            } else {
                writer.checkpoint_due()
            };
        }
        for _ in 0..self.dice.below(4) {
            let Some(mut job) = running.take() else {
                return;
            };
            match job.step() {
                Ok(true) => *running = Some(job),
                ended => {
                    self.tally.checkpoints += u64::from(ended.is_ok());
                    writer.checkpoint_done(job.done(ended.map(drop)));
                }
            }
        }
    }

    /// The disk is full for a while: nothing is changed meanwhile, all goes on afterwards.
    fn fill_up(&mut self, writer: &mut Writer) {
        let used: usize = self
            .disk
            .list()
            .expect("a list")
            .iter()
            .filter_map(|name| self.disk.len_of(name))
            .sum();
        self.disk
            .set_capacity(Some(used + self.dice.below(80) as usize));
        for _ in 0..3 {
            if let End::Failed = self.batch(writer) {
                // Another fault met it; the session notices with its next batch.
                break;
            }
        }
        self.disk.set_capacity(None);
        if self.dice.once_in(2) {
            writer.look_for_room();
        }
        self.tally.full += 1;
        if self.under_way.is_some() || writer.published().failure().is_some() {
            return;
        }
        let txn = self.txn(vec![put("a", &"x".repeat(90), None)]);
        let now = self.disk.clock_ms();
        let mut attempt = self.model.attempt();
        attempt.apply(&txn, now);
        match writer.commit(vec![txn], now).remove(0) {
            Ok(_) => {
                self.model.adopt(attempt);
                assert_eq!(writer.published().condition(), Condition::Serving);
            }
            Err(error) => {
                assert_ne!(error, StoreError::NoSpace, "there is room again");
                self.under_way = Some(attempt);
            }
        }
    }

    /// After a failure nothing is written, and reads show what was acknowledged.
    fn check_failed(&mut self, writer: &Writer) {
        assert!(writer.published().failure().is_some());
        assert!(matches!(
            writer.published().condition(),
            Condition::Failed(_)
        ));
        let attempt = self.under_way.take();
        self.check(writer);
        self.under_way = attempt;
    }

    /// Turns a bit of a file over: the store says so and does not open, or it does not matter.
    fn rot(&mut self) {
        let names = self.disk.list().expect("a list");
        if names.is_empty() {
            return;
        }
        let name = &names[self.dice.below(names.len() as u64) as usize];
        let len = self.disk.len_of(name).unwrap_or(0) as u64;
        if len == 0 {
            return;
        }
        let offset = self.dice.below(len) as usize;
        if !self.disk.damage(name, offset) {
            return;
        }
        match self.open_writer() {
            Err(OpenError::Damaged { .. } | OpenError::Format { .. }) => {
                self.tally.damage_found += 1;
                // Restored from elsewhere, as the message says.
                self.disk.damage(name, offset);
            }
            Err(error) => panic!("{error}"),
            Ok(writer) => {
                let found = writer.published().revision();
                if let Some(attempt) = self.under_way.take()
                    && found == attempt.now.revision
                {
                    self.model.adopt(attempt);
                }
                self.check(&writer);
            }
        }
    }

    fn txn(&mut self, success: Vec<Op>) -> Txn {
        Txn {
            success,
            ..Txn::default()
        }
    }

    fn filler(&mut self) -> String {
        let len = self.dice.below(120) as usize;
        let has_zeros = self.kind.has_zeros && self.writes != Format::Plain;
        match has_zeros && self.dice.once_in(2) {
            true => "\0".repeat(len * 20),
            false => "x".repeat(len),
        }
    }

    fn random_txn(&mut self, state: &Attempt) -> Txn {
        let mut result = self.txn(Vec::new());
        for key in KEYS {
            if !self.dice.once_in(3) {
                continue;
            }
            self.counter += 1;
            let filler = self.filler();
            let value = format!("{}{filler}", self.counter);
            let ttl = (key == "t").then(|| Duration::from_millis(1 + self.dice.below(3000)));
            result.success.push(match self.dice.once_in(4) {
                true => Op::Delete {
                    key: Bytes::from_static(key.as_bytes()),
                },
                false => put(key, &value, ttl),
            });
            if self.dice.once_in(4) {
                let key = Bytes::from_static(key.as_bytes());
                let held = state.now.keys.get(&key);
                let right = held.map_or(0, |held| held.revision);
                let wrong = u64::from(self.dice.once_in(5));
                result.compare.push(Compare::ModRevision {
                    key,
                    equals: right + wrong,
                });
            }
        }
        if self.dice.once_in(8) {
            result.compare.push(Compare::NotNewer {
                start: Bytes::from_static(b"c/"),
                end: RangeEnd::Prefix,
                revision: state.now.revision - self.dice.below(4).min(state.now.revision),
            });
        }
        result
    }

    /// The store is what the model says, now and as far back as it is readable.
    fn check(&mut self, writer: &Writer) {
        let published = writer.published();
        let inner = published.read();
        let history = &inner.history;
        assert_eq!(history.revision(), self.model.now.revision);
        let (current, compacted) = (history.revision(), history.compacted());
        let (found, _) = history.versions_at(b"", current, usize::MAX);
        assert_eq!(found.len(), self.model.now.keys.len());
        for (key, version) in found {
            let held = self.model.now.keys.get(&key).expect("a key of the model");
            let found = (&version.value, version.mod_revision, version.lease);
            assert_eq!(found, (&held.value, held.revision, held.deadline));
        }
        let past = compacted.max(1) + self.dice.below(current - compacted.max(1) + 1);
        let (found, _) = history.versions_at(b"", past, usize::MAX);
        let found: BTreeMap<_, _> = found.into_iter().map(|(k, v)| (k, v.value)).collect();
        assert_eq!(found, self.model.at(past), "the state at {past}");
        drop(inner);
        self.check_watch(writer, compacted);
    }

    /// A watch resumes anywhere after the compaction and misses nothing.
    fn check_watch(&mut self, writer: &Writer, compacted: Revision) {
        let revision = self.model.now.revision;
        let from = compacted + 1 + self.dice.below(revision - compacted + 1);
        let cursor = Cursor::new(Bytes::new(), RangeEnd::Prefix, from);
        let mut seen: Vec<(Revision, Changes)> = Vec::new();
        while let Look::Batches(batches) = cursor.look(writer.published()) {
            for batch in batches {
                let changes = batch.events.iter().map(|event| {
                    let value = (event.kind == EventKind::Put).then(|| event.kv.value.clone());
                    (event.kv.key.clone(), value)
                });
                seen.push((batch.revision, changes.collect()));
            }
        }
        let expected: Vec<_> = self.model.commits.range(from..).collect();
        assert!(
            seen.iter().map(|(r, c)| (r, c)).eq(expected.into_iter()),
            "a watch from {from} saw something else"
        );
    }

    fn inspect_files(&mut self, writer: &Writer) {
        let state = self.model.at(self.model.now.revision);
        (self.inspect)(&Sight {
            disk: &self.disk,
            revision: writer.published().revision(),
            state: &state,
        });
    }
}

fn put(key: &'static str, value: &str, ttl: Option<Duration>) -> Op {
    Op::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl,
    }
}
