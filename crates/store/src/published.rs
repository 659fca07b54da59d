//! What readers see, and the only door through which a transaction becomes visible.
//!
//! Contract: [`Published::publish`] demands the [`Durable`] that only a successful sync of the
//! log hands out, so nothing can be seen, and no caller be answered, before it is on disk. The
//! lock is held for a piece of work of bounded size and never across I/O.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::history::{Commit, History, Scanned, upper_bound};
use crate::wal::Durable;
use crate::watch::Cursor;
use crate::{Condition, Range, RangeEnd, RangeResult, Revision, StoreError};

/// Keys visited in one go under the lock.
const PIECE: usize = 1024;
/// Commits freed for each one published, and a few more.
const SWEEP_PER_COMMIT: usize = 4;
const SWEEP_AT_LEAST: usize = 64;

/// The history and who watches it.
pub(crate) struct Published {
    inner: RwLock<Inner>,
    /// Revisions that somebody is reading piece by piece, with how many do.
    pins: Mutex<BTreeMap<Revision, usize>>,
    revision: AtomicU64,
    failed: OnceLock<Arc<str>>,
    full: AtomicBool,
    closed: AtomicBool,
}

pub(crate) struct Inner {
    pub(crate) history: History,
    pub(crate) cursors: Vec<Arc<Cursor>>,
    /// Grows when the whole history was replaced.
    epoch: u64,
}

/// Keeps one revision readable as long as it lives.
pub(crate) struct Pin {
    published: Arc<Published>,
    revision: Revision,
}

impl Pin {
    /// The revision that it keeps.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.published.pins.lock();
        if let Some(count) = pins.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.revision);
            }
        }
    }
}

/// The current revision and the one that a range is to be read at.
fn readable(history: &History, range: &Range) -> Result<(Revision, Revision), StoreError> {
    let (current, compacted) = (history.revision(), history.compacted());
    let at = range.revision.unwrap_or(current);
    if at > current {
        return Err(StoreError::FutureRevision {
            requested: at,
            current,
        });
    }
    if at < compacted {
        return Err(StoreError::Compacted {
            requested: at,
            compacted,
        });
    }
    Ok((current, at))
}

impl Published {
    pub(crate) fn new(history: History) -> Arc<Published> {
        Arc::new(Published {
            revision: AtomicU64::new(history.revision()),
            inner: RwLock::new(Inner {
                history,
                cursors: Vec::new(),
                epoch: 0,
            }),
            pins: Mutex::default(),
            failed: OnceLock::new(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read()
    }

    /// The current revision, without the lock.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Makes transactions visible that the log holds for good.
    pub(crate) fn publish(&self, commits: Vec<Commit>, compact: Option<Revision>, proof: &Durable) {
        let mut inner = self.inner.write();
        let Inner {
            history, cursors, ..
        } = &mut *inner;
        let budget = commits.len() * SWEEP_PER_COMMIT + SWEEP_AT_LEAST;
        for commit in commits {
            let batch = commit.batch.clone();
            assert!(
                batch.revision <= proof.revision(),
                "published before it is durable"
            );
            history.apply(commit);
            for cursor in cursors.iter() {
                cursor.published(&batch);
            }
        }
        if let Some(revision) = compact {
            history.compact(revision);
        }
        let keep = self
            .pins
            .lock()
            .keys()
            .next()
            .copied()
            .unwrap_or(Revision::MAX);
        history.sweep(keep, budget);
        self.revision.store(history.revision(), Ordering::Release);
    }

    /// Takes another history in place of the one there is. Watches go on where they are if it
    /// reaches back so far, and end otherwise.
    pub(crate) fn replace(&self, history: History) {
        let mut inner = self.inner.write();
        let revision = history.revision();
        inner.history = history;
        inner.epoch += 1;
        for cursor in &inner.cursors {
            cursor.look_again();
        }
        self.revision.store(revision, Ordering::Release);
    }

    /// Frees some of what compaction gave up; whether there is more to free.
    pub(crate) fn sweep(&self) -> bool {
        let keep = |pins: &BTreeMap<Revision, usize>| pins.keys().next().copied();
        let mut inner = self.inner.write();
        let keep = keep(&self.pins.lock()).unwrap_or(Revision::MAX);
        inner.history.sweep(keep, 1024)
    }

    /// Reads the whole of a range, a piece at a time, so that neither a writer nor another
    /// reader waits long; `between` is awaited where the lock is free.
    pub(crate) async fn range<F: Future<Output = ()>>(
        self: &Arc<Published>,
        range: &Range,
        between: impl Fn() -> F,
    ) -> Result<RangeResult, StoreError> {
        if range.end == RangeEnd::Key {
            return self.point(range);
        }
        let mut scratch = Vec::new();
        let end = upper_bound(&range.start, &range.end, &mut scratch);
        let most = match (range.count_only, range.limit) {
            (true, _) => 0,
            (false, 0) => usize::MAX,
            (false, limit) => limit,
        };
        let (current, at, epoch, mut found, pin) = {
            let inner = self.open()?;
            let history = &inner.history;
            let (current, at) = readable(history, range)?;
            let found = history.scan(&range.start, end, at, most, PIECE);
            let pin = found.next.is_some().then(|| self.pin(at));
            (current, at, inner.epoch, found, pin)
        };
        while let Some(from) = found.next.take() {
            between().await;
            let inner = self.read();
            if inner.epoch != epoch {
                return Err(StoreError::Compacted {
                    requested: at,
                    compacted: inner.history.compacted(),
                });
            }
            let wanted = most - found.kvs.len();
            let more: Scanned = inner.history.scan(&from, end, at, wanted, PIECE);
            drop(inner);
            found.kvs.extend(more.kvs);
            found.count += more.count;
            found.next = more.next;
        }
        drop(pin);
        let more = !range.count_only && found.count > found.kvs.len();
        Ok(RangeResult {
            kvs: found.kvs,
            count: found.count,
            more,
            revision: current,
        })
    }

    /// Reads one key.
    fn point(&self, range: &Range) -> Result<RangeResult, StoreError> {
        let inner = self.open()?;
        let (revision, at) = readable(&inner.history, range)?;
        let found = inner.history.point(&range.start, at);
        drop(inner);
        let count = usize::from(found.is_some());
        Ok(RangeResult {
            kvs: found.filter(|_| !range.count_only).into_iter().collect(),
            count,
            more: false,
            revision,
        })
    }

    /// The lock for a reader, unless the store is closed.
    pub(crate) fn open(&self) -> Result<RwLockReadGuard<'_, Inner>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(self.read())
    }

    /// Keeps a revision that is readable now. The caller holds the lock, or the revision cannot
    /// be swept for another reason.
    pub(crate) fn pin(self: &Arc<Published>, revision: Revision) -> Pin {
        *self.pins.lock().entry(revision).or_default() += 1;
        Pin {
            published: self.clone(),
            revision,
        }
    }

    pub(crate) fn register(&self, cursor: Arc<Cursor>) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        cursor.check(&inner.history)?;
        inner.cursors.push(cursor);
        Ok(())
    }

    pub(crate) fn unregister(&self, cursor: &Arc<Cursor>) {
        let mut inner = self.inner.write();
        if let Some(at) = inner
            .cursors
            .iter()
            .position(|other| Arc::ptr_eq(other, cursor))
        {
            inner.cursors.swap_remove(at);
        }
    }

    /// No write succeeds from now on. The first reason stays.
    pub(crate) fn fail(&self, reason: String) -> StoreError {
        let reason = self.failed.get_or_init(|| reason.into()).clone();
        StoreError::Failed { reason }
    }

    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.failed.get().map(|reason| StoreError::Failed {
            reason: reason.clone(),
        })
    }

    /// Notes that there is no room on the disk, or that there is again.
    pub(crate) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::AcqRel) != full {
            match full {
                true => tracing::error!("no space left in the data directory: no writes for now"),
                false => tracing::info!("there is space in the data directory again"),
            }
        }
    }

    /// Whether writes are taken, and if not, why.
    pub(crate) fn condition(&self) -> Condition {
        match self.failed.get() {
            Some(reason) => Condition::Failed(reason.clone()),
            None if self.full.load(Ordering::Acquire) => Condition::Full,
            None => Condition::Serving,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all watches and answers no read any more.
    pub(crate) fn close(&self) {
        let inner = self.inner.write();
        self.closed.store(true, Ordering::Release);
        for cursor in &inner.cursors {
            cursor.wake();
        }
    }
}
