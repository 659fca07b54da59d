//! Seats of a level, held, and waiting for them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use access::flow::{Outcome, Place, Start, Work};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::counts::Counts;
use super::fairness::Level;
use super::requests::{Details, Seated, details};
use crate::call::Call;

/// What is counted apart.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// It has its seats only until it has begun.
    pub(super) watch: bool,
    /// It changes nothing.
    pub(super) reads: bool,
}

/// Wakes somebody who waits, and gives him his seats.
pub(super) struct Waker {
    sender: oneshot::Sender<Permit>,
    counts: Arc<Counts>,
    work: Work,
    kind: Kind,
    /// For people who look: who it is and since when he waits.
    pub(super) flow: String,
    pub(super) arrived: jiff::Timestamp,
    pub(super) details: Option<Details>,
}

impl Waker {
    /// The schema that he belongs to.
    pub(super) fn schema(&self) -> &str {
        &self.counts.schema
    }
}

/// Seats of a level; they are free again when this is dropped.
pub(crate) struct Permit {
    level: Arc<Level>,
    counts: Arc<Counts>,
    place: Place,
    work: Work,
    started: Instant,
    kind: Kind,
}

/// A request at the door of a level.
pub(super) struct Arrival<'a> {
    pub(super) level: &'a Arc<Level>,
    pub(super) counts: &'a Arc<Counts>,
    pub(super) work: Work,
    pub(super) hash: u64,
    pub(super) flow: &'a str,
    pub(super) kind: Kind,
    /// The request itself, if there is one.
    pub(super) call: Option<&'a Call>,
    /// No longer than this.
    pub(super) patience: Duration,
}

impl Arrival<'_> {
    /// Seats, at once or after a while.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn seat(self) -> Result<Permit, &'static str> {
        let (level, counts, work) = (self.level, self.counts, self.work);
        counts.seats.note(work.most() as f64);
        let started = Instant::now();
        let mut receiver = None;
        let start = level
            .queues
            .lock()
            .start(level.nanos(started), work, self.hash, || {
                let (sender, woken) = oneshot::channel();
                receiver = Some(woken);
                Waker {
                    sender,
                    counts: counts.clone(),
                    work,
                    kind: self.kind,
                    flow: self.flow.to_owned(),
                    arrived: jiff::Timestamp::now(),
                    details: self.call.map(details),
                }
            });
        let (queue, number) = match start {
            Start::Execute(place) => {
                if !level.exempt {
                    counts.waited(Duration::ZERO, true);
                }
                return Ok(Permit::new(level, counts, place, work, self.kind));
            }
            Start::Reject(reason) => {
                counts.reject(reason);
                return Err(reason);
            }
            Start::Wait(queue, number) => (queue, number),
        };
        counts.waiting.fetch_add(1, Relaxed);
        counts.waiting_seats.fetch_add(work.most() as i64, Relaxed);
        (level.flows).waiting(level.nanos(started), self.kind.reads, 1);
        let _waits = Waits {
            level,
            counts,
            work,
            reads: self.kind.reads,
            queue,
            number,
        };
        let woken = match receiver {
            Some(woken) => tokio::time::timeout(self.patience, woken).await,
            None => return Err("time-out"),
        };
        let served = matches!(woken, Ok(Ok(_)));
        counts.waited(started.elapsed(), served);
        match woken {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                counts.reject("time-out");
                Err("time-out")
            }
        }
    }
}

/// Somebody who waits; when he goes, his place in the queue is free.
struct Waits<'a> {
    level: &'a Arc<Level>,
    counts: &'a Counts,
    work: Work,
    reads: bool,
    queue: usize,
    number: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let seats = self.work.most() as i64;
        self.counts.waiting.fetch_sub(1, Relaxed);
        self.counts.waiting_seats.fetch_sub(seats, Relaxed);
        let now = self.level.nanos(Instant::now());
        self.level.flows.waiting(now, self.reads, -1);
        // When he was called already, his seats come back with the permit that nobody takes.
        (self.level.queues.lock()).cancel(now, self.queue, self.number);
    }
}

impl Permit {
    fn new(level: &Arc<Level>, counts: &Arc<Counts>, place: Place, work: Work, kind: Kind) -> Self {
        let started = Instant::now();
        (level.flows).executing(level.nanos(started), kind.reads, 1);
        counts.dispatched.fetch_add(1, Relaxed);
        counts.executing.fetch_add(1, Relaxed);
        (counts.executing_seats).fetch_add(work.most() as i64, Relaxed);
        Self {
            level: level.clone(),
            counts: counts.clone(),
            place,
            work,
            started,
            kind,
        }
    }
}

impl Permit {
    /// Who has them, for people who look.
    pub(super) fn seated(&self) -> Seated {
        Seated {
            level: self.level.clone(),
            counts: self.counts.clone(),
            queue: self.place.queue(),
            work: self.work,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        self.counts
            .took(now.duration_since(self.started), self.kind.watch);
        self.counts.executing.fetch_sub(1, Relaxed);
        let seats = self.work.most() as i64;
        let (level, counts, place) = (&self.level, &self.counts, self.place);
        (level.flows).executing(level.nanos(now), self.kind.reads, -1);
        let released = level.queues.lock().finish(level.nanos(now), &place);
        let Some(nanos) = released.lingers else {
            counts.executing_seats.fetch_sub(seats, Relaxed);
            serve(level, released.woken);
            return;
        };
        let (level, counts) = (level.clone(), counts.clone());
        let release = move || {
            counts.executing_seats.fetch_sub(seats, Relaxed);
            let now = level.nanos(Instant::now());
            let woken = level.queues.lock().release(now, &place);
            serve(&level, woken);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
                release();
            })),
            Err(_) => release(),
        }
    }
}

/// Calls those whose wait is over. The level's lock must not be held: who is not there any more gives his seats back.
pub(super) fn serve(level: &Arc<Level>, woken: Vec<Outcome<Waker>>) {
    for Outcome { waker, place } in woken {
        let permit = Permit::new(level, &waker.counts, place, waker.work, waker.kind);
        drop(waker.sender.send(permit));
    }
}

/// What levels keep under their lock.
pub(super) type Queues = Mutex<access::flow::QueueSet<Waker>>;
