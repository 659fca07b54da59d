//! Name suffixes from a seed: the driver brings the randomness, the brain picks a name that nobody has yet.

/// The alphabet of generated names: no vowels and no look-alikes, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Longest base of a generated name; five characters follow, 63 in all.
const MAX_BASE_LENGTH: usize = 58;

/// An endless, reproducible supply of name suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    seed: u64,
}

impl Names {
    /// A supply that depends on the seed only.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The suffixes, in order.
    pub fn suffixes(self) -> impl Iterator<Item = String> {
        let mut state = self.seed;
        std::iter::repeat_with(move || {
            let mut bits = split_mix(&mut state);
            let letters = (0..5).map(|_| {
                let letter = ALPHABET[(bits % 27) as usize];
                bits /= 27;
                char::from(letter)
            });
            letters.collect()
        })
    }

    /// Names with this base that `taken` does not know, all different.
    pub fn unused(self, base: &str, taken: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let cut = base
            .char_indices()
            .nth(MAX_BASE_LENGTH)
            .map_or(base, |(at, _)| &base[..at])
            .to_owned();
        let mut given = std::collections::HashSet::new();
        self.suffixes()
            .map(move |suffix| format!("{cut}{suffix}"))
            .filter(move |name| !taken(name) && given.insert(name.clone()))
    }
}

/// One step of the SplitMix64 generator: small, and good enough to spread names.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
