//! Inputs near those of the corpus: a seed, and a few edits that random bytes tell.

const MOST_EDITS: usize = 12;
/// What breaks readers more often than chance.
const WORDS: &[&[u8]] = &[
    b"\xff",
    b"\x00",
    b"\x80",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"\xc3\xa9",
    b"\xf0\x9f\xa6\x80",
    b"\xed\xa0\x80",
    b"\n",
    b"(",
    b")",
    b"/",
    b"~",
    b"$patch",
];

/// A seed, edited as the script says: its first byte chooses the seed, each four bytes after it are one edit.
pub fn edited(seeds: &[Vec<u8>], script: &[u8]) -> Vec<u8> {
    let Some((first, rest)) = script.split_first() else {
        return Vec::new();
    };
    let Some(seed) = seeds.get(usize::from(*first) % seeds.len().max(1)) else {
        return rest.to_vec();
    };
    let mut made = seed.clone();
    for edit in rest.chunks_exact(4).take(MOST_EDITS) {
        let [kind, high, low, value] = edit else {
            break;
        };
        let at = usize::from(u16::from_be_bytes([*high, *low])) % (made.len() + 1);
        let length = (usize::from(*value) % 16 + 1).min(made.len() - at);
        match kind % 6 {
            0 => made.insert(at, *value),
            1 => drop(made.drain(at..at + length)),
            2 => {
                let part = made[at..at + length].to_vec();
                made.splice(at..at, part);
            }
            3 => {
                let word = WORDS[usize::from(*value) % WORDS.len()];
                made.splice(at..at, word.iter().copied());
            }
            4 => {
                if let Some(byte) = made.get_mut(at) {
                    *byte ^= *value;
                }
            }
            _ => {
                // The beginning of one seed and the end of another.
                let other = &seeds[usize::from(*value) % seeds.len()];
                made.truncate(at);
                made.extend(&other[other.len().min(at)..]);
            }
        }
    }
    made
}
