//! Batches of format 2: no sector that was written is ever all zeros.
//!
//! A disk writes a sector of 512 bytes at once or not at all, and one that was never written reads as zeros. So that
//! the two can be told apart whatever is stored, every sector of a segment but the first begins with a mark of one
//! byte, and so does every record. In between stands, as if the marks were not there:
//!
//! `magic (4) | length of the payload (4) | crc32 of the payload (4) | crc32 of the head (4) | payload`
//!
//! The checksum of the payload begins with the segment's salt. That of the head covers the salt, the
//! record's place in the file and the twelve bytes before it: the length of a record can be trusted
//! when its payload cannot, and a record is sound only where it was written.
//!
//! What follows from it: a broken record at the end of the log is an unfinished write exactly when the file ends
//! before it does or one of its sectors is nothing but zeros. All else was whole once and is damage.

/// What a disk writes at once, or not at all.
const SECTOR: usize = 512;
/// The first byte of each sector; more than one bit must turn over before it is gone.
const MARK: u8 = 0xa5;
/// None of its bytes is 0: it is the mark of the sector that a record begins in.
const MAGIC: [u8; 4] = *b"oxrc";
/// Bytes before the payload, marks not counted.
const HEAD: usize = 16;
const MAX_PAYLOAD: usize = 256 << 20;

fn payload_sum(salt: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn head_sum(salt: u32, at: usize, head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(head);
    hasher.finalize()
}

/// Appends a record to `out`, to be written at `at` of the segment.
pub(super) fn write(out: &mut Vec<u8>, at: usize, salt: u32, payload: &[u8]) {
    let len = payload.len();
    assert!(len <= MAX_PAYLOAD, "a record of {len} bytes");
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    head[8..12].copy_from_slice(&payload_sum(salt, payload).to_le_bytes());
    let sum = head_sum(salt, at, &head[..12]);
    head[12..].copy_from_slice(&sum.to_le_bytes());
    out.reserve(HEAD + len + len / (SECTOR - 1) + 2);
    let mut at = at;
    for part in [&head[..], payload] {
        put(out, &mut at, part);
    }
}

fn put(out: &mut Vec<u8>, at: &mut usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if at.is_multiple_of(SECTOR) {
            out.push(MARK);
            *at += 1;
        }
        let room = SECTOR - *at % SECTOR;
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        out.extend_from_slice(now);
        *at += now.len();
        bytes = later;
    }
}

/// Takes so many bytes from `at` on, without the marks; `None` when a mark is missing or the file
/// ends.
fn take(bytes: &[u8], at: &mut usize, len: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut left = len;
    while left > 0 {
        if at.is_multiple_of(SECTOR) {
            if *bytes.get(*at)? != MARK {
                return None;
            }
            *at += 1;
        }
        let now = left.min(SECTOR - *at % SECTOR);
        out.extend_from_slice(bytes.get(*at..*at + now)?);
        *at += now;
        left -= now;
    }
    Some(())
}

/// What the head at `at` says, when it is sound.
struct Head {
    /// Where the payload begins.
    at: usize,
    len: usize,
    sum: u32,
}

fn head(bytes: &[u8], at: usize, salt: u32) -> Option<Head> {
    let (mut end, mut found) = (at, Vec::with_capacity(HEAD));
    take(bytes, &mut end, HEAD, &mut found)?;
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| found[at + byte]));
    let sound = found[..4] == MAGIC && head_sum(salt, at, &found[..12]) == word(12);
    let len = word(4) as usize;
    (sound && len <= MAX_PAYLOAD).then(|| Head {
        at: end,
        len,
        sum: word(8),
    })
}

/// Where so many bytes from `at` on end when the marks among them are not counted.
fn end_of(at: usize, len: usize) -> usize {
    if len == 0 {
        return at;
    }
    let marks_before = (at - 1) / SECTOR;
    let last = at - marks_before + len - 1;
    match last.checked_sub(SECTOR) {
        None => last + 1,
        Some(beyond) => {
            let (sectors, rest) = (beyond / (SECTOR - 1), beyond % (SECTOR - 1));
            SECTOR + sectors * SECTOR + rest + 2
        }
    }
}

/// Reads the record at `at` into `payload`, and says where it ends, if there is a whole and sound one.
pub(super) fn read(bytes: &[u8], at: usize, salt: u32, payload: &mut Vec<u8>) -> Option<usize> {
    let Head { mut at, len, sum } = head(bytes, at, salt)?;
    payload.clear();
    if len > bytes.len() {
        return None;
    }
    take(bytes, &mut at, len, payload)?;
    (payload_sum(salt, payload) == sum).then_some(at)
}

/// Whether one of the sound records that begin after `at` is as asked.
pub(super) fn any_after(
    bytes: &[u8],
    at: usize,
    salt: u32,
    mut is_it: impl FnMut(&[u8]) -> bool,
) -> bool {
    let mut payload = Vec::new();
    let begins = |from: &usize| bytes[*from] == MAGIC[0] || from.is_multiple_of(SECTOR);
    (at + 1..bytes.len())
        .filter(begins)
        .any(|from| read(bytes, from, salt, &mut payload).is_some() && is_it(&payload))
}

/// Whether the broken record at `at`, behind which no sound one stands, is what an unfinished write
/// leaves.
pub(super) fn is_torn(bytes: &[u8], at: usize, salt: u32) -> bool {
    let end = match head(bytes, at, salt) {
        Some(head) => end_of(head.at, head.len),
        None => end_of(at, HEAD),
    };
    // Whole sectors: what else stands in one shows as well that it was written.
    let covered = at..end.next_multiple_of(SECTOR).min(bytes.len());
    end > bytes.len() || has_unwritten(bytes, covered)
}

fn has_unwritten(bytes: &[u8], mut covered: std::ops::Range<usize>) -> bool {
    while !covered.is_empty() {
        let to = covered
            .end
            .min((covered.start + 1).next_multiple_of(SECTOR));
        if bytes[covered.start..to].iter().all(|&byte| byte == 0) {
            return true;
        }
        covered.start = to;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes with many zeros among them.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let runs = (
            any::<u8>(),
            prop_oneof![Just(0usize), 0..600usize, Just(1500)],
        );
        prop::collection::vec(runs, 0..6).prop_map(|runs| {
            let runs = runs.into_iter();
            runs.flat_map(|(byte, len)| std::iter::repeat_n(byte & 1, len))
                .collect()
        })
    }

    fn segment(before: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![7; before];
        write(&mut bytes, before, 5, payload);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(before in 30..1100usize, payload in payload()) {
            let bytes = segment(before, &payload);
            let mut found = Vec::new();
            prop_assert_eq!(read(&bytes, before, 5, &mut found), Some(bytes.len()));
            prop_assert_eq!(&found, &payload);
            prop_assert_eq!(read(&bytes, before, 6, &mut found), None);
            let head = head(&bytes, before, 5).expect("a sound head");
            prop_assert_eq!(end_of(head.at, head.len), bytes.len());
            // Elsewhere it is no record.
            let mut moved = vec![7; before + SECTOR];
            moved.extend(&bytes[before..]);
            prop_assert_eq!(read(&moved, before + SECTOR, 5, &mut found), None);
        }

        /// Whichever sectors of a record got to the disk: it is whole, or seen to be unfinished.
        #[test]
        fn an_unfinished_write_is_seen(
            before in 30..1100usize,
            payload in payload(),
            written in any::<u64>(),
        ) {
            let whole = segment(before, &payload);
            let mut bytes = vec![7; before];
            let mut at = before;
            for sector in 0.. {
                if at >= whole.len() {
                    break;
                }
                let to = whole.len().min((at + 1).next_multiple_of(SECTOR));
                if written & (1 << (sector % 64)) != 0 {
                    bytes.resize(at, 0);
                    bytes.extend(&whole[at..to]);
                }
                at = to;
            }
            for file in [bytes.clone(), { bytes.resize(whole.len(), 0); bytes }] {
                let is_whole = read(&file, before, 5, &mut Vec::new()).is_some();
                prop_assert_eq!(is_whole, file == whole);
                if file.len() > before && !is_whole {
                    prop_assert!(is_torn(&file, before, 5));
                }
            }
        }

        /// However many bits of it turn over, none of a record's sectors passes for unwritten.
        #[test]
        fn rot_is_seen(
            before in 30..1100usize,
            payload in payload(),
            turned in prop::collection::vec((any::<usize>(), 0..8u32), 1..4),
            behind in prop::collection::vec(Just(0u8), 0..700),
        ) {
            let whole = segment(before, &payload);
            let mut bytes = whole.clone();
            for (at, bit) in turned {
                let len = bytes.len() - before;
                bytes[before + at % len] ^= 1 << bit;
            }
            bytes.extend(behind);
            prop_assume!(bytes[..whole.len()] != whole);
            prop_assert_eq!(read(&bytes, before, 5, &mut Vec::new()), None);
            prop_assert!(!is_torn(&bytes, before, 5));
        }
    }
}
