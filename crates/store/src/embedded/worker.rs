//! The writer thread: takes what waits, commits it in batches, and has checkpoints made.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::queue::{Answer, BATCH, Crowd, Job, Queue, now_ms};
use crate::checkpoint::{self, Done};
use crate::stage::size_of;
use crate::writer::Writer;
use crate::{Condition, Txn, TxnResult};

/// Bytes in one batch, give or take one transaction.
const BATCH_BYTES: usize = 8 << 20;

/// Of the time of the last sync, the next one waits so much for those who may share it, but never longer than this.
const CROWD_SHARE: u32 = 4;
const LONGEST_PATIENCE: Duration = Duration::from_micros(500);
/// Where a sync costs next to nothing, waiting for anybody costs more.
const LEAST_PATIENCE: Duration = Duration::from_micros(50);

/// While the disk is full, it is looked for room so often.
const LOOK_FOR_ROOM_MS: u64 = 2_000;

/// A checkpoint rests no longer than this between its chunks.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// What runs on the writer thread.
pub(super) struct Worker {
    writer: Writer,
    queue: Arc<Queue>,
    crowd: Crowd,
    checkpoint: Option<JoinHandle<()>>,
    /// Who asked for a checkpoint that has not begun.
    checkpoint_wanted: Vec<Answer<()>>,
    /// Who waits for the one that runs.
    checkpoint_waits: Vec<Answer<()>>,
}

/// The end of the worker, orderly or by a panic: nobody is left waiting.
impl Drop for Worker {
    fn drop(&mut self) {
        let published = self.writer.published();
        if std::thread::panicking() {
            published.fail("the writer thread panicked".into());
        }
        self.queue.end();
        published.close();
        // A checkpoint that is under way notices the end and gives up.
        if let Some(thread) = self.checkpoint.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    pub(super) fn new(writer: Writer, queue: Arc<Queue>) -> Self {
        Self {
            writer,
            queue,
            crowd: Crowd::default(),
            checkpoint: None,
            checkpoint_wanted: Vec::new(),
            checkpoint_waits: Vec::new(),
        }
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self) {
        loop {
            let is_full = self.writer.published().condition() == Condition::Full;
            let room = is_full.then(|| now_ms() + LOOK_FOR_ROOM_MS);
            let deadline = self.writer.next_deadline().into_iter().chain(room).min();
            let (jobs, closing) = self.queue.take(deadline, self.crowd);
            if jobs.is_empty() && !closing {
                self.writer.look_for_room();
            }
            if let Err(error) = self.writer.expire(now_ms()) {
                tracing::warn!("removing keys whose time is over: {error}");
            }
            if jobs.is_empty() && closing {
                return;
            }
            self.work(jobs);
            self.start_checkpoint();
        }
    }

    fn work(&mut self, jobs: Vec<Job>) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for job in jobs {
            match job {
                Job::Txn(txn, answer, permit) => {
                    bytes += size_of(&txn);
                    batch.push((txn, (answer, permit)));
                    if batch.len() == BATCH || bytes >= BATCH_BYTES {
                        bytes = 0;
                        self.commit(std::mem::take(&mut batch));
                    }
                }
                Job::Compact(revision, answer) => {
                    self.commit(std::mem::take(&mut batch));
                    // Nobody waits for the answer any more: that is no error.
                    let _ = answer.send(self.writer.compact(revision, now_ms()));
                }
                Job::Checkpoint(answer) => {
                    self.commit(std::mem::take(&mut batch));
                    self.checkpoint_wanted.push(answer);
                }
                Job::CheckpointDone(done) => self.checkpoint_done(done),
                Job::PutAside(content, answer) => {
                    let _ = answer.send(self.writer.put_aside(&content));
                }
                Job::LogBytes(answer) => {
                    let _ = answer.send(self.writer.log_bytes());
                }
            }
        }
        self.commit(batch);
    }

    fn commit(&mut self, batch: Vec<(Txn, (Answer<TxnResult>, OwnedSemaphorePermit))>) {
        if batch.is_empty() {
            return;
        }
        let (txns, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let began = Instant::now();
        let results = self.writer.commit(txns, now_ms());
        self.crowd = match began.elapsed() / CROWD_SHARE {
            patience if patience < LEAST_PATIENCE => Crowd::default(),
            patience => Crowd {
                expected: results.len() + self.queue.len(),
                patience: patience.min(LONGEST_PATIENCE),
            },
        };
        for (result, (answer, _permit)) in results.into_iter().zip(answers) {
            let _ = answer.send(result);
        }
    }

    fn checkpoint_done(&mut self, done: Done) {
        if let Some(thread) = self.checkpoint.take() {
            let _ = thread.join();
        }
        self.writer.checkpoint_done(done);
        let result = || self.writer.published().failure().map_or(Ok(()), Err);
        for answer in self.checkpoint_waits.drain(..) {
            let _ = answer.send(result());
        }
    }

    fn start_checkpoint(&mut self) {
        let wanted = self.checkpoint.is_none() && !self.checkpoint_wanted.is_empty();
        let job = if wanted {
            self.wanted_checkpoint()
        } else {
            self.writer.checkpoint_due()
        };
        let Some(job) = job else { return };
        let queue = self.queue.clone();
        let spawned = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                let mut began = Instant::now();
                let done = job.run(|| {
                    // Half of the time belongs to the log.
                    std::thread::sleep(began.elapsed().min(LONGEST_REST));
                    began = Instant::now();
                });
                // The queue is closed only when nobody cares about the checkpoint any more.
                let _ = queue.push(Job::CheckpointDone(done));
            });
        match spawned {
            Ok(thread) => self.checkpoint = Some(thread),
            Err(error) => {
                let reason = format!("starting a checkpoint failed: {error}");
                self.writer.published().fail(reason);
            }
        }
    }

    /// What somebody asked for; answered at once when there is nothing to do.
    fn wanted_checkpoint(&mut self) -> Option<checkpoint::Job> {
        let answers = std::mem::take(&mut self.checkpoint_wanted);
        let rotated = self.writer.rotate();
        let job = rotated.clone().ok().and_then(|()| self.writer.checkpoint());
        if job.is_some() {
            self.checkpoint_waits.extend(answers);
        } else {
            for answer in answers {
                let _ = answer.send(rotated.clone());
            }
        }
        job
    }
}
