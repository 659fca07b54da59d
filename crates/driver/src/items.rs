//! The items of one controller: queued, at work, waiting for their own writes, and what is remembered of each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use control::caches::Written;
use control::{Answers, Caches, Failure, Key, Resource};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::measures::{Figures, Measures};
use crate::queue::Queue;

/// Longest armed time; a toleration may be longer than the clock can count.
const FAR_AHEAD: Duration = Duration::from_secs(30 * 24 * 3600);

/// A write whose echo the cache must show before the next decision (KEP-5647).
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The kind written.
    pub(crate) resource: Resource,
    /// What to look for.
    pub(crate) written: Written,
    /// How often the kind had been listed at that time; a later list contains the write.
    pub(crate) lists: u64,
}

impl Pending {
    /// Whether the cache shows it. A kind without a cache is not waited for.
    pub(crate) fn has_arrived(&self, caches: &Caches) -> bool {
        caches
            .find(&self.resource)
            .is_none_or(|store| store.has_seen(&self.written) || store.lists() > self.lists)
    }
}

/// What is remembered between two decisions about one item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Own writes that have not come back yet.
    pub(crate) pending: Vec<Pending>,
    /// Answers to what was asked.
    pub(crate) answers: Answers,
    /// What went wrong last time.
    pub(crate) failure: Option<Failure>,
    /// Since when that has been so what the brain waits for.
    pub(crate) since: Option<Timestamp>,
}

impl Memory {
    fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.answers.is_empty()
            && self.failure.is_none()
            && self.since.is_none()
    }
}

/// Counters of one controller.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Decisions taken.
    pub(crate) decisions: AtomicU64,
    /// Requests sent.
    pub(crate) requests: AtomicU64,
    /// Plans that could not be carried out.
    pub(crate) failures: AtomicU64,
    /// Times an item had to wait for the echo of its own write.
    pub(crate) waits: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: Queue,
    memory: HashMap<Key, Memory>,
    parked: HashMap<Key, Pending>,
    measures: Measures,
}

/// All items of one controller.
pub(crate) struct Items {
    /// The controller's name.
    pub(crate) name: &'static str,
    /// What it has done so far.
    pub(crate) counters: Counters,
    state: Mutex<State>,
    changed: Notify,
}

/// What to do with a taken item.
pub(crate) enum Taken {
    /// Decide, with this memory.
    Work(Key, Box<Memory>),
    /// Nothing to do before the time, if there is one.
    Wait(Option<Instant>),
}

/// How a decision ended.
pub(crate) enum Done {
    /// The item is gone.
    Gone,
    /// Carried out; look again after this time, if any.
    Fine(Option<Duration>),
    /// Something was asked: decide again at once.
    Asked,
    /// It failed.
    Failed,
}

impl Items {
    /// For the controller of this name.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            counters: Counters::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Something about the item changed.
    pub(crate) fn add(&self, key: Key) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.measures.added(&key, now);
        state.queue.add(key);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until something is added or finished.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next item that can be decided. Items whose own writes are not back yet are parked.
    pub(crate) fn take(&self, now: Instant, caches: &Caches) -> Taken {
        let mut state = self.state.lock();
        let state = &mut *state;
        while let Some(key) = state.queue.take(now) {
            state.parked.remove(&key);
            let mut memory = state.memory.remove(&key).unwrap_or_default();
            memory.pending.retain(|p| !p.has_arrived(caches));
            let Some(waiting) = memory.pending.first().cloned() else {
                state.measures.taken(&key, now);
                return Taken::Work(key, Box::new(memory));
            };
            self.counters.waits.fetch_add(1, Ordering::Relaxed);
            state.memory.insert(key.clone(), memory);
            state.queue.done(&key);
            // Under the same lock as `unpark`, so the echo cannot slip through in between.
            state.parked.insert(key, waiting);
        }
        Taken::Wait(state.queue.next_due())
    }

    /// The decision about an item has ended.
    pub(crate) fn finish(&self, key: &Key, memory: Memory, done: Done, now: Instant) {
        let mut state = self.state.lock();
        if !memory.is_empty() {
            state.memory.insert(key.clone(), memory);
        }
        let failed = matches!(done, Done::Failed);
        state.measures.finished(key, failed, now);
        let queue = &mut state.queue;
        match done {
            Done::Gone => {
                queue.succeed(key);
                queue.disarm(key);
            }
            Done::Fine(after) => {
                queue.succeed(key);
                queue.disarm(key);
                if let Some(after) = after {
                    queue.arm(key, now + after.min(FAR_AHEAD));
                }
            }
            Done::Asked => queue.add(key.clone()),
            Done::Failed => {
                queue.fail(key, now);
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        queue.done(key);
        drop(state);
        self.changed.notify_one();
    }

    /// A kind's cache has advanced: whoever waited for that goes on.
    pub(crate) fn unpark(&self, resource: &Resource, caches: &Caches) {
        let mut state = self.state.lock();
        if state.parked.is_empty() {
            return;
        }
        let ready: Vec<Key> = state
            .parked
            .iter()
            .filter(|(_, p)| p.resource == *resource && p.has_arrived(caches))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &ready {
            state.parked.remove(key);
            state.queue.add(key.clone());
        }
        drop(state);
        if !ready.is_empty() {
            self.changed.notify_one();
        }
    }

    /// What its queue looks like.
    pub(crate) fn figures(&self) -> Figures {
        let state = self.state.lock();
        state.measures.figures(state.queue.depth(), Instant::now())
    }

    /// Items waiting for a worker.
    pub(crate) fn depth(&self) -> usize {
        self.state.lock().queue.depth()
    }
}
