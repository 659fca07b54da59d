//! What waits for the writer thread, and how that waits for more of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::checkpoint::Done;
use crate::{Revision, StoreError, Txn, TxnResult};

/// Transactions in one batch.
pub(super) const BATCH: usize = 1024;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer thread is asked for.
pub(super) enum Job {
    Txn(Txn, Answer<TxnResult>, OwnedSemaphorePermit),
    Compact(Revision, Answer<()>),
    /// A checkpoint now; the answer comes when it is done.
    Checkpoint(Answer<()>),
    CheckpointDone(Done),
    LogBytes(oneshot::Sender<u64>),
    PutAside(Vec<u8>, Answer<()>),
}

/// What waits for the writer thread.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: Vec<Job>,
    /// Whoever takes them wants to be woken for so many only.
    wanted: usize,
    closing: bool,
}

/// Who may come back at once after a sync.
#[derive(Clone, Copy, Default)]
pub(super) struct Crowd {
    /// Transactions of those who were answered, and of those who were waiting then.
    pub(super) expected: usize,
    /// How long they are waited for.
    pub(super) patience: Duration,
}

impl Queue {
    pub(super) fn push(&self, job: Job) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.closing {
            return Err(StoreError::Closed);
        }
        state.jobs.push(job);
        let is_enough = state.jobs.len() >= state.wanted;
        drop(state);
        if is_enough {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Takes nothing any more, and leaves nobody waiting for what was not taken.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.jobs.clear();
    }

    /// Waits for jobs, and a moment for those of the crowd, for the deadline or for the end; true says that it is the end.
    pub(super) fn take(&self, deadline_ms: Option<u64>, crowd: Crowd) -> (Vec<Job>, bool) {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && !state.closing {
            let Some(deadline) = deadline_ms else {
                self.wake.wait(&mut state);
                continue;
            };
            let left = Duration::from_millis(deadline.saturating_sub(now_ms()));
            if left.is_zero() || self.wake.wait_for(&mut state, left).timed_out() {
                break;
            }
        }
        let until = Instant::now() + crowd.patience;
        state.wanted = crowd.expected.min(BATCH);
        while (1..state.wanted).contains(&state.jobs.len()) && !state.closing {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.wanted = 0;
        (std::mem::take(&mut state.jobs), state.closing)
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis() as u64)
}
