//! Frames: how bytes stand in the log and in checkpoints so that damage is seen.
//!
//! `magic (4) | length of the payload (4) | crc32 (4) | payload`, little endian. The checksum
//! covers the length and the payload and begins with a *salt* that each file draws for itself, so
//! that bytes of another file, or bytes that a user stored, never pass for a frame of this one.

use std::io::{self, Read};
use std::ops::Range;

const MAGIC: [u8; 4] = *b"oxfr";
/// Bytes before the payload.
pub(crate) const HEAD: usize = 12;
/// No payload is larger; a length beyond it is damage.
pub(crate) const MAX_PAYLOAD: usize = 256 << 20;

fn checksum(salt: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Appends a frame to `out`, whose payload `fill` writes.
pub(crate) fn write(out: &mut Vec<u8>, salt: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    fill(out);
    let payload = &out[start + HEAD..];
    assert!(
        payload.len() <= MAX_PAYLOAD,
        "a frame of {} bytes",
        payload.len()
    );
    let (len, crc) = (payload.len() as u32, checksum(salt, payload));
    out[start..start + 4].copy_from_slice(&MAGIC);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Where the payload of the frame at `at` lies, if there is a whole and sound one.
pub(crate) fn parse(bytes: &[u8], at: usize, salt: u32) -> Option<Range<usize>> {
    let head = bytes.get(at..at + HEAD)?;
    let len = word(head, 4) as usize;
    if head[..4] != MAGIC || len > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(at + HEAD..at + HEAD + len)?;
    (checksum(salt, payload) == word(head, 8)).then_some(at + HEAD..at + HEAD + len)
}

/// Sound frames anywhere in `bytes` from `from` on, for telling a torn end from damage.
pub(crate) fn search(
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
pub(crate) fn is_torn(bytes: &[u8], at: usize, salt: u32) -> bool {
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

/// Reads the next frame of a stream into `payload`. `InvalidData` when there is none that is
/// sound.
pub(crate) fn read(from: &mut dyn Read, salt: u32, payload: &mut Vec<u8>) -> io::Result<()> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch");
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let len = word(&head, 4) as usize;
    if head[..4] != MAGIC || len > MAX_PAYLOAD {
        return Err(damaged());
    }
    payload.clear();
    if from.take(len as u64).read_to_end(payload)? != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if checksum(salt, payload) == word(&head, 8) {
        Ok(())
    } else {
        Err(damaged())
    }
}
