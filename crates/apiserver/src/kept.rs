//! Answers that stay good for a while: a bounded map whose entries end by themselves.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// At most so many entries; the one put in first goes first.
pub(crate) struct Kept<K, V> {
    most: usize,
    entries: HashMap<Arc<K>, (V, Instant, u64)>,
    order: VecDeque<(Arc<K>, u64)>,
    count: u64,
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    /// An empty one.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            entries: HashMap::new(),
            order: VecDeque::new(),
            count: 0,
        }
    }

    /// What was put in under a key, as long as it is good.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let (value, until, _) = self.entries.get(key)?;
        if *until > Instant::now() {
            return Some(value.clone());
        }
        self.entries.remove(key);
        None
    }

    /// Puts an entry in for some time.
    pub(crate) fn put(&mut self, key: K, value: V, time: Duration) {
        let key = Arc::new(key);
        self.count += 1;
        self.entries
            .insert(key.clone(), (value, Instant::now() + time, self.count));
        self.order.push_back((key, self.count));
        // The order may name entries that are gone or were put in again since.
        while self.order.len() > self.most {
            let Some((oldest, count)) = self.order.pop_front() else {
                return;
            };
            if self
                .entries
                .get(&oldest)
                .is_some_and(|(_, _, own)| *own == count)
            {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_newest_and_only_while_they_are_good() {
        let mut kept = Kept::new(2);
        let hour = Duration::from_secs(3600);
        kept.put("a", 1, hour);
        kept.put("b", 2, hour);
        kept.put("a", 3, hour);
        kept.put("c", 4, hour);
        assert_eq!(
            (kept.get(&"a"), kept.get(&"b"), kept.get(&"c")),
            (Some(3), None, Some(4))
        );
        kept.put("d", 5, Duration::ZERO);
        assert_eq!(kept.get(&"d"), None);
    }
}
