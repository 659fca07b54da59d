//! A table of points: from a hash to the numbers of slots that may have the key.
//!
//! Contract: 32 bits of hash and 32 of number side by side in one row of words, looked at from the place on that the
//! hash says, to the first that is empty. At most three quarters are in use, so that a look takes one
//! line of the processor's cache, or the next one as well. A point that goes leaves no gap behind: those that stand
//! after it for want of room move up.

/// Words of the smallest table.
const LEAST: usize = 8;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// A hash in the upper half and a number, plus one, in the lower; 0 is nothing. As many as a power of two.
    words: Vec<u64>,
    used: usize,
}

fn word(hash: u32, number: u32) -> u64 {
    u64::from(hash) << 32 | (u64::from(number) + 1)
}

/// Where a point with this hash is looked for first.
fn home(word: u64, mask: usize) -> usize {
    (word >> 32) as usize & mask
}

impl Points {
    /// What `is_it` finds at the first of the numbers with the hash at which it finds something.
    pub(super) fn find<T>(&self, hash: u32, mut is_it: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mask = self.words.len().checked_sub(1)?;
        let mut at = home(word(hash, 0), mask);
        while self.words[at] != 0 {
            let found = self.words[at];
            if (found >> 32) as u32 == hash
                && let Some(found) = is_it((found as u32).wrapping_sub(1))
            {
                return Some(found);
            }
            at = (at + 1) & mask;
        }
        None
    }

    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        assert!(number < u32::MAX, "a number plus one fits into half a word");
        if (self.used + 1) * 4 > self.words.len() * 3 {
            self.grow();
        }
        self.put(word(hash, number));
        self.used += 1;
    }

    fn put(&mut self, word: u64) {
        let mask = self.words.len() - 1;
        let mut at = home(word, mask);
        while self.words[at] != 0 {
            at = (at + 1) & mask;
        }
        self.words[at] = word;
    }

    fn grow(&mut self) {
        let double = vec![0; (self.words.len() * 2).max(LEAST)];
        let before = std::mem::replace(&mut self.words, double);
        for word in before.into_iter().filter(|word| *word != 0) {
            self.put(word);
        }
    }

    /// Takes a point that is there out.
    pub(super) fn remove(&mut self, hash: u32, number: u32) {
        let mask = self.words.len() - 1;
        let gone = word(hash, number);
        let mut gap = home(gone, mask);
        while self.words[gap] != gone {
            assert!(self.words[gap] != 0, "each slot in use is pointed to");
            gap = (gap + 1) & mask;
        }
        let mut next = (gap + 1) & mask;
        while self.words[next] != 0 {
            // Whether it would have stood in the gap, had that been free: its home is not between the two.
            let from_home = next.wrapping_sub(home(self.words[next], mask)) & mask;
            let from_gap = next.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.words[gap] = self.words[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.words[gap] = 0;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However points come and go, all that are there are found: also those whose hashes crowd.
        #[test]
        fn all_are_found(steps in prop::collection::vec((0u32..40, 0u32..60, any::<bool>()), 0..400)) {
            let (mut points, mut model) = (Points::default(), BTreeSet::new());
            for (hash, number, comes) in steps {
                let hash = hash % 7 * 0x1000_0001 + hash / 10;
                match (comes, model.contains(&(hash, number))) {
                    (true, false) => {
                        points.insert(hash, number);
                        model.insert((hash, number));
                    }
                    (false, true) => {
                        points.remove(hash, number);
                        model.remove(&(hash, number));
                    }
                    _ => {}
                }
                prop_assert_eq!(points.used, model.len());
                let all = model.iter().all(|(hash, number)| {
                    points.find(*hash, |found| (found == *number).then_some(())).is_some()
                });
                prop_assert!(all);
            }
            let stray = points.find(0xffff_0000, |_| Some(()));
            prop_assert_eq!(stray, None);
        }
    }
}
