//! Batches of format 1: frames one after another.
//!
//! Kept for directories of earlier releases; nothing of it is written any more but by the simulation, which upgrades
//! such directories. Its weakness is why there is a format 2: a record that holds a whole sector of zeros cannot be told
//! from one of which a sector was never written. What can be concluded all the same, [`is_torn`] concludes.

use std::ops::Range;

use crate::frame::{HEAD, MAGIC, checksum, parse, word};

/// Sound frames anywhere in `bytes` from `from` on, for telling a torn end from damage.
pub(super) fn search(
    bytes: &[u8],
    from: usize,
    salt: u32,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    (from..bytes.len().saturating_sub(HEAD - 1))
        .filter(move |&at| bytes[at..at + 4] == MAGIC)
        .filter_map(move |at| parse(bytes, at, salt).map(|payload| (at, payload)))
}

/// What a disk writes at once, or not at all.
const SECTOR: usize = 512;

/// Whether the broken end of a file at `at` is what an unfinished write leaves: it is too short,
/// or a sector of it was never written and reads as zeros. Anything else was whole once.
///
/// Another unfinished write may stand behind a frame that was whole: only what the frame itself
/// covers is asked for unwritten sectors, and a length that is itself damaged does not count.
pub(super) fn is_torn(bytes: &[u8], at: usize, salt: u32) -> bool {
    let rest = &bytes[at..];
    if rest.len() < HEAD {
        return true;
    }
    if has_damaged_length(rest, salt) {
        return false;
    }
    let end = HEAD.saturating_add(word(rest, 4) as usize);
    let is_frame = word(rest, 0) ^ u32::from_le_bytes(MAGIC);
    let is_whole = is_frame.count_ones() <= 1 && end <= rest.len();
    let end = if is_whole { at + end } else { bytes.len() };
    let mut from = at;
    while from < end {
        let to = end.min(from + SECTOR - from % SECTOR);
        if bytes[from..to].iter().all(|&byte| byte == 0) {
            // A few zeros at a sector's edge may belong there.
            return to - from >= 16 || !is_one_bit_off(&bytes[at..end], salt);
        }
        from = to;
    }
    rest[..4] == MAGIC && !is_whole
}

/// Whether the frame at the start of the bytes would be sound if a bit of its length were turned over.
fn has_damaged_length(bytes: &[u8], salt: u32) -> bool {
    let (length, crc) = (word(bytes, 4), word(bytes, 8));
    (0..u32::BITS).any(|bit| {
        let length = (length ^ (1 << bit)) as usize;
        let payload = HEAD
            .checked_add(length)
            .and_then(|end| bytes.get(HEAD..end));
        bytes[..4] == MAGIC && payload.is_some_and(|payload| checksum(salt, payload) == crc)
    })
}

/// Whether a small frame that fills the bytes would be sound with a single bit turned over.
fn is_one_bit_off(bytes: &[u8], salt: u32) -> bool {
    const SMALL: usize = 4096;
    if bytes.len() > SMALL {
        return false;
    }
    let mut bytes = bytes.to_vec();
    let bits = bytes.len() * 8;
    let turned = |bit: usize| {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let is_sound = parse(&bytes, 0, salt).is_some();
        bytes[bit / 8] ^= 1 << (bit % 8);
        is_sound
    };
    (0..bits).any(turned)
}
