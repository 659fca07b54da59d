//! The work queue of one controller: each item at most once in the queue and at most once at work.
//!
//! No clock inside: the caller says what time it is, which makes it testable and keeps all timers in one place.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use control::Key;

/// First delay after a failure, as upstream's item back-off.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// Longest delay after many failures.
const LONGEST_DELAY: Duration = Duration::from_secs(1000);

/// Items to look at, now or at an armed time.
#[derive(Default)]
pub(crate) struct Queue {
    ready: VecDeque<Key>,
    queued: HashSet<Key>,
    running: HashSet<Key>,
    timers: BTreeMap<(Instant, u64), Key>,
    armed: HashMap<Key, (Instant, u64)>,
    failures: HashMap<Key, u32>,
    sequence: u64,
}

impl Queue {
    /// Something about the item changed. While it is at work, it comes back afterwards.
    pub(crate) fn add(&mut self, key: Key) {
        if self.queued.insert(key.clone()) && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// The next item to work on; timers that are due come first.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Key> {
        while let Some((&(at, sequence), _)) = self.timers.first_key_value() {
            if at > now {
                break;
            }
            if let Some(key) = self.timers.remove(&(at, sequence)) {
                self.armed.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// The item is no longer at work.
    pub(crate) fn done(&mut self, key: &Key) {
        self.running.remove(key);
        if self.queued.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// Looks at the item again at this time, whatever was armed before.
    pub(crate) fn arm(&mut self, key: &Key, at: Instant) {
        self.disarm(key);
        self.sequence += 1;
        self.timers.insert((at, self.sequence), key.clone());
        self.armed.insert(key.clone(), (at, self.sequence));
    }

    /// Forgets the armed time.
    pub(crate) fn disarm(&mut self, key: &Key) {
        if let Some(slot) = self.armed.remove(key) {
            self.timers.remove(&slot);
        }
    }

    /// The item failed: it comes back after a delay that doubles each time.
    pub(crate) fn fail(&mut self, key: &Key, now: Instant) -> Duration {
        let count = self.failures.entry(key.clone()).or_default();
        let delay = FIRST_DELAY
            .saturating_mul(1_u32.checked_shl(*count).unwrap_or(u32::MAX))
            .min(LONGEST_DELAY);
        *count = (*count + 1).min(31);
        self.arm(key, now + delay);
        delay
    }

    /// The item went well: its next failure starts from the first delay.
    pub(crate) fn succeed(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// When the next timer is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Items waiting for a worker.
    pub(crate) fn depth(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::cluster(name)
    }

    #[test]
    fn an_item_is_queued_once_and_never_at_work_twice() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.take(now), Some(key("a")));
        queue.add(key("a"));
        assert_eq!(queue.take(now), Some(key("b")));
        assert_eq!(queue.take(now), None, "a is still at work");
        queue.done(&key("a"));
        assert_eq!(queue.take(now), Some(key("a")), "it changed meanwhile");
        queue.done(&key("a"));
        queue.done(&key("b"));
        assert_eq!(queue.take(now), None);
    }

    #[test]
    fn the_last_armed_time_counts() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.arm(&key("a"), now + Duration::from_secs(10));
        queue.arm(&key("a"), now + Duration::from_secs(20));
        assert_eq!(queue.take(now + Duration::from_secs(15)), None);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(20)));
        assert_eq!(queue.take(now + Duration::from_secs(20)), Some(key("a")));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_back_off_and_success_resets() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let delays: Vec<u128> = (0..4)
            .map(|_| queue.fail(&key("a"), now).as_millis())
            .collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        for _ in 0..40 {
            queue.fail(&key("a"), now);
        }
        assert_eq!(queue.fail(&key("a"), now), LONGEST_DELAY);
        queue.succeed(&key("a"));
        assert_eq!(queue.fail(&key("a"), now), FIRST_DELAY);
    }
}
