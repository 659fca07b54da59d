//! Numbers from a range, each given out once.

use rand::RngExt;

/// What has been given out of `0..size`.
pub(super) struct Bitmap {
    words: Vec<u64>,
    size: usize,
    /// Numbers below are given out unasked only when all others are gone: they are for those who ask for one.
    band: usize,
}

impl Bitmap {
    pub(super) fn new(size: usize, band: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)],
            size,
            band: band.min(size),
        }
    }

    /// Takes one number; false when it is taken.
    pub(super) fn take(&mut self, number: usize) -> bool {
        let (word, bit) = (number / 64, 1 << (number % 64));
        let free = number < self.size && self.words[word] & bit == 0;
        if free {
            self.words[word] |= bit;
        }
        free
    }

    /// Gives a number back.
    pub(super) fn release(&mut self, number: usize) {
        if number < self.size {
            self.words[number / 64] &= !(1 << (number % 64));
        }
    }

    /// Takes any free number.
    pub(super) fn take_any(&mut self) -> Option<usize> {
        self.take_between(self.band, self.size)
            .or_else(|| self.take_between(0, self.band))
    }

    fn take_between(&mut self, from: usize, to: usize) -> Option<usize> {
        if from >= to {
            return None;
        }
        // From a random place on, so that a number that was just given back is not given out at once.
        let start = random_between(from, to);
        (start..to)
            .chain(from..start)
            .find(|number| self.take(*number))
    }
}

fn random_between(from: usize, to: usize) -> usize {
    rand::rng().random_range(from..to)
}

#[cfg(test)]
mod tests {
    use super::Bitmap;

    #[test]
    fn every_number_is_given_out_once_and_the_band_last() {
        let mut map = Bitmap::new(100, 16);
        assert!(map.take(99) && !map.take(99) && !map.take(100));
        let mut given: Vec<usize> = (0..83).filter_map(|_| map.take_any()).collect();
        assert!(given.iter().all(|n| (16..99).contains(n)));
        given.extend((0..17).filter_map(|_| map.take_any()));
        given.sort_unstable();
        assert_eq!(given, (0..99).collect::<Vec<_>>());
        map.release(5);
        assert_eq!(map.take_any(), Some(5));
    }
}
