//! Events that wait to be written: a queue with a bound, emptied in batches; where the target takes several at a time, the next
//! goes while the last is under way, as fast as the throttle lets it.
//!
//! Behaviour: `k8s.io/apiserver/plugin/pkg/audit/buffered`.

use std::sync::Arc;

use access::audit::Event;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Batch, Counts, Target};

/// The way into the queue.
pub(super) struct Queue {
    events: mpsc::Sender<Arc<Event>>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

/// Who empties it.
struct Worker {
    events: mpsc::Receiver<Arc<Event>>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    batch: Batch,
    throttle: Option<Throttle>,
    target: Arc<Target>,
    counts: Arc<Counts>,
    /// Batches that are under way.
    sending: JoinSet<()>,
}

/// A bucket of tokens: `rate` a second, at most `burst`.
struct Throttle {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Throttle {
    fn new(rate: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self {
            rate,
            burst,
            tokens: burst,
            at: Instant::now(),
        }
    }

    /// Takes a token; it is there at the time given.
    fn take(&mut self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate).min(self.burst) - 1.0;
        self.at = now;
        match self.tokens < 0.0 {
            true => now + std::time::Duration::from_secs_f64(-self.tokens / self.rate),
            false => now,
        }
    }
}

impl Queue {
    /// A queue, and a task that empties it.
    pub(super) fn start(batch: &Batch, target: Arc<Target>, counts: Arc<Counts>) -> Self {
        let (events, waiting) = mpsc::channel(batch.buffer.max(1));
        let (flushes, flushing) = mpsc::channel(1);
        let worker = Worker {
            events: waiting,
            flushes: flushing,
            throttle: batch
                .throttle
                .map(|(rate, burst)| Throttle::new(rate, burst)),
            batch: batch.clone(),
            target,
            counts,
            sending: JoinSet::new(),
        };
        tokio::spawn(worker.run());
        Self { events, flushes }
    }

    /// Adds an event, or loses it when there are too many.
    pub(super) fn push(&self, event: Arc<Event>, counts: &Counts) {
        if self.events.try_send(event).is_err() {
            counts.failed("buffered", "audit buffer queue blocked", 1);
        }
    }

    /// Waits until all that is in it now has been written.
    pub(super) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.flushes.send(done).await.is_ok() {
            // The worker answers or is gone: either way nothing more is written.
            let _ = wait.await;
        }
    }
}

impl Worker {
    async fn run(mut self) {
        loop {
            tokio::select! {
                first = self.events.recv() => match first {
                    Some(first) => self.collect(first).await,
                    None => return,
                },
                Some(done) = self.flushes.recv() => self.empty(done).await,
                Some(_) = self.sending.join_next() => {}
            }
        }
    }

    /// Waits for others a while, and sends them together.
    async fn collect(&mut self, first: Arc<Event>) {
        let mut events = vec![first];
        let mut asked = None;
        let until = Instant::now() + self.batch.max_wait;
        while events.len() < self.batch.max_size {
            tokio::select! {
                next = timeout_at(until, self.events.recv()) => match next {
                    Ok(Some(event)) => events.push(event),
                    _ => break,
                },
                Some(done) = self.flushes.recv() => {
                    asked = Some(done);
                    break;
                }
            }
        }
        self.send(events, asked.is_none()).await;
        if let Some(done) = asked {
            self.empty(done).await;
        }
    }

    async fn empty(&mut self, done: oneshot::Sender<()>) {
        loop {
            let mut events = Vec::new();
            while events.len() < self.batch.max_size.max(1) {
                let Ok(event) = self.events.try_recv() else {
                    break;
                };
                events.push(event);
            }
            if events.is_empty() {
                break;
            }
            self.send(events, false).await;
        }
        while self.sending.join_next().await.is_some() {}
        // Whoever asked may have gone.
        let _ = done.send(());
    }

    async fn send(&mut self, events: Vec<Arc<Event>>, throttled: bool) {
        if let Some(throttle) = self.throttle.as_mut().filter(|_| throttled) {
            let at = throttle.take(Instant::now());
            sleep_until(at).await;
        }
        let (target, counts) = (self.target.clone(), self.counts.clone());
        let work = async move {
            if let Err(why) = target.send(&events).await {
                counts.failed(target.name(), &why, events.len());
            }
        };
        match self.target.at_once() {
            0 | 1 => work.await,
            most => {
                while self.sending.len() >= most {
                    self.sending.join_next().await;
                }
                self.sending.spawn(work);
            }
        }
    }
}
