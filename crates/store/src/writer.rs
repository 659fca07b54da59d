//! The one writer: evaluates transactions in order, logs them, publishes them.
//!
//! Contract: a plain state machine without threads and without a clock (the time comes with each
//! call), so that the simulated-crash tests drive it step by step. [`crate::embedded`] runs it on
//! a thread.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, is_no_space};
use crate::embedded::{OpenError, Options};
use crate::format::{self, Format};
use crate::history::{Commit, History};
use crate::published::Published;
use crate::record::{put_batch_head, put_commit, put_compact};
use crate::recovery::{initialize, recover, salt};
use crate::stage::Stage;
use crate::wal::{AppendError, Log, Shape};
use crate::{
    Condition, Event, LeaseId, Op, Revision, StoreError, Txn, TxnResult, aside, checkpoint,
};

/// After keys could not be removed, for want of room, it is tried again so much later.
const EXPIRE_AGAIN_MS: u64 = 5_000;
/// Keys that one transaction removes when their time is over.
const EXPIRE_AT_ONCE: usize = 256;
/// The disk is full as long as this does not fit.
const ROOM: usize = 1 << 20;
/// A state larger than this does not put a checkpoint off any further.
const CHECKPOINT_AT_MOST: u64 = 256 << 20;

/// See the module's header.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    options: Options,
    published: Arc<Published>,
    log: Log,
    /// The keys that have a time to live, the next one to go first.
    expiring: BTreeSet<(u64, Bytes)>,
    expire_not_before: u64,
    checkpoint_running: bool,
    /// After a checkpoint found no room: not before the log has grown to this.
    checkpoint_above: u64,
}

impl Writer {
    /// Opens what is on the disk, or begins a new store on an empty one.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Writer, OpenError> {
        Writer::open_to_write(disk, options, Format::CURRENT)
    }

    /// The same as it was when this format was the current one.
    pub(crate) fn open_to_write(
        disk: Arc<dyn Disk>,
        options: Options,
        writes: Format,
    ) -> Result<Writer, OpenError> {
        let declared = format::read(&*disk)?;
        let shape = Shape {
            segment_bytes: options.segment_bytes,
            declared: declared.unwrap_or(writes),
            writes,
        };
        let (history, log) = match declared {
            Some(_) => recover(&disk, shape)?,
            None => (History::empty(), initialize(&disk, shape)?),
        };
        let expiring = history
            .leases()
            .filter(|(lease, _)| !LeaseId(*lease).is_named())
            .collect();
        Ok(Writer {
            disk,
            options,
            published: Published::new(history),
            log,
            expiring,
            expire_not_before: 0,
            checkpoint_running: false,
            checkpoint_above: 0,
        })
    }

    /// What readers see of it.
    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// When [`Writer::expire`] has something to do next, in milliseconds since 1970.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.published.failure().is_some() {
            return None;
        }
        self.expiring
            .first()
            .map(|(deadline, _)| (*deadline).max(self.expire_not_before))
    }

    /// Removes the keys whose time is over.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Result<(), StoreError> {
        while self
            .next_deadline()
            .is_some_and(|deadline| deadline <= now_ms)
        {
            let due = self
                .expiring
                .iter()
                .take_while(|(deadline, _)| *deadline <= now_ms);
            let success: Vec<Op> = due
                .take(EXPIRE_AT_ONCE)
                .map(|(_, key)| Op::Delete { key: key.clone() })
                .collect();
            let txn = Txn {
                success,
                ..Txn::default()
            };
            let results = self.commit(vec![txn], now_ms);
            if let Err(error) = results.into_iter().try_for_each(|result| result.map(drop)) {
                self.expire_not_before = now_ms + EXPIRE_AGAIN_MS;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Carries transactions out, in order, with one write and one sync for all of them.
    pub(crate) fn commit(
        &mut self,
        txns: Vec<Txn>,
        now_ms: u64,
    ) -> Vec<Result<TxnResult, StoreError>> {
        let count = txns.len();
        if count == 0 {
            return Vec::new();
        }
        if let Some(failure) = self.published.failure() {
            return vec![Err(failure); count];
        }
        let (results, staged, compact) = {
            let inner = self.published.read();
            let mut stage = Stage::new(&inner.history, now_ms, self.options.max_txn_bytes);
            let results: Vec<_> = txns.into_iter().map(|txn| stage.evaluate(txn)).collect();
            let compact = inner.history.excess(
                now_ms,
                self.options.history_age.as_millis() as u64,
                self.options.history_revisions,
                self.options.history_bytes,
            );
            (results, stage.commits, compact)
        };
        if staged.is_empty() {
            return results;
        }
        match self.log_and_publish(staged, compact, now_ms) {
            Ok(()) => results,
            Err(error) => vec![Err(error); count],
        }
    }

    /// Gives the history before a revision up.
    pub(crate) fn compact(&mut self, revision: Revision, now_ms: u64) -> Result<(), StoreError> {
        if let Some(failure) = self.published.failure() {
            return Err(failure);
        }
        let (current, compacted) = {
            let inner = self.published.read();
            (inner.history.revision(), inner.history.compacted())
        };
        if revision > current {
            return Err(StoreError::FutureRevision {
                requested: revision,
                current,
            });
        }
        if revision > compacted {
            self.log_and_publish(Vec::new(), Some(revision), now_ms)?;
            while self.published.sweep() {}
        }
        Ok(())
    }

    fn log_and_publish(
        &mut self,
        commits: Vec<Commit>,
        compact: Option<Revision>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        if self.log.is_full() {
            self.log
                .rotate(salt())
                .map_err(|error| self.refuse(error))?;
        }
        let sequence = self.log.next_sequence();
        let revision = commits
            .last()
            .map_or(self.published.revision(), |last| last.batch.revision);
        self.log
            .append(revision, |out| {
                put_batch_head(out, sequence, now_ms);
                for commit in &commits {
                    put_commit(out, commit.batch.revision, &commit.batch.events);
                }
                if let Some(revision) = compact {
                    put_compact(out, revision);
                }
            })
            .map_err(|error| self.refuse(error))?;
        let durable = match self.log.sync() {
            Ok(durable) => durable,
            Err(error) => {
                return Err(self
                    .published
                    .fail(format!("syncing the log failed: {error}")));
            }
        };
        for event in commits.iter().flat_map(|commit| commit.batch.events.iter()) {
            self.note_expiry(event);
        }
        self.published.publish(commits, compact, &durable);
        self.published.set_full(false);
        Ok(())
    }

    fn refuse(&self, error: AppendError) -> StoreError {
        match error {
            AppendError::NoSpace => {
                self.published.set_full(true);
                StoreError::NoSpace
            }
            AppendError::Io(error) => self
                .published
                .fail(format!("writing the log failed: {error}")),
        }
    }

    /// When writes found no room: whether there is some again, though nobody may write meanwhile, as long as the server
    /// says that it does not take writes.
    pub(crate) fn look_for_room(&self) {
        if self.published.condition() == Condition::Full && has_room(&*self.disk) {
            self.published.set_full(false);
        }
    }

    fn note_expiry(&mut self, event: &Event) {
        if let Some(old) = event.previous.as_ref().and_then(|previous| previous.lease) {
            self.expiring.remove(&(old.0, event.kv.key.clone()));
        }
        if let Some(new) = event.kv.lease.filter(|lease| !lease.is_named()) {
            self.expiring.insert((new.0, event.kv.key.clone()));
        }
    }

    /// A checkpoint, when enough of the log could go after it. The answer belongs into
    /// [`Writer::checkpoint_done`].
    pub(crate) fn checkpoint_due(&mut self) -> Option<checkpoint::Job> {
        if self.checkpoint_running || self.published.failure().is_some() {
            return None;
        }
        let inner = self.published.read();
        let revision = inner.history.compacted();
        let state = (inner.history.state_bytes() as u64).min(CHECKPOINT_AT_MOST);
        drop(inner);
        let enough = self
            .options
            .checkpoint_bytes
            .max(state)
            .max(self.checkpoint_above);
        if self.log.removable_bytes(revision) < enough {
            return None;
        }
        self.checkpoint()
    }

    /// A checkpoint of the oldest readable state, worth it or not; none when one is under way or
    /// would change nothing.
    pub(crate) fn checkpoint(&mut self) -> Option<checkpoint::Job> {
        if self.checkpoint_running || self.published.failure().is_some() {
            return None;
        }
        let inner = self.published.read();
        let revision = inner.history.compacted();
        let segments = self.log.superfluous(revision);
        if segments.is_empty() {
            return None;
        }
        // Pinned under the lock: until now nothing after the compaction can have been swept.
        let pin = self.published.pin(revision);
        drop(inner);
        self.checkpoint_running = true;
        let encoder = checkpoint::Encoder::new(self.published.clone(), pin, salt());
        let chunk = self.options.checkpoint_chunk_bytes;
        Some(checkpoint::Job::new(
            self.disk.clone(),
            encoder,
            chunk,
            segments,
        ))
    }

    /// Takes note of a checkpoint and of what it made superfluous.
    pub(crate) fn checkpoint_done(&mut self, done: checkpoint::Done) {
        self.checkpoint_running = false;
        self.log.forget(&done.removed);
        match done.result {
            Ok(()) => self.checkpoint_above = 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_no_space(&error) => {
                tracing::warn!("no room for a checkpoint, the log goes on growing");
                self.checkpoint_above =
                    self.log.removable_bytes(done.revision) + self.options.checkpoint_bytes;
            }
            Err(error) => {
                self.published
                    .fail(format!("writing a checkpoint failed: {error}"));
            }
        }
    }

    /// Begins a new segment, so that a checkpoint can make the ones before it superfluous.
    pub(crate) fn rotate(&mut self) -> Result<(), StoreError> {
        if let Some(failure) = self.published.failure() {
            return Err(failure);
        }
        self.log.rotate(salt()).map_err(|error| self.refuse(error))
    }

    /// Keeps this beside the log, in place of what was kept there before.
    pub(crate) fn put_aside(&self, content: &[u8]) -> Result<(), StoreError> {
        if let Some(failure) = self.published.failure() {
            return Err(failure);
        }
        aside::write(&*self.disk, content).map_err(|error| match is_no_space(&error) {
            true => StoreError::NoSpace,
            false => self
                .published
                .fail(format!("writing beside the log failed: {error}")),
        })
    }

    /// Bytes of the log on the disk.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }
}

/// Whether a file of some size can be written.
fn has_room(disk: &dyn Disk) -> bool {
    let name = "room.tmp";
    let written = (|| {
        let mut file = disk.create(name)?;
        file.append(&vec![1; ROOM])?;
        file.sync()
    })();
    // The next start removes it when this cannot.
    written.and(disk.remove(name)).is_ok()
}
