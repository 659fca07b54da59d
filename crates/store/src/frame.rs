//! Frames: how bytes stand in checkpoints and beside the log so that damage is seen.
//!
//! Of the log it is the heads of segments, and the batches of format 1.
//!
//! `magic (4) | length of the payload (4) | crc32 (4) | payload`, little endian. The checksum
//! covers the length and the payload and begins with a *salt* that each file draws for itself, so
//! that bytes of another file, or bytes that a user stored, never pass for a frame of this one.

use std::io::{self, Read};
use std::ops::Range;

pub(crate) const MAGIC: [u8; 4] = *b"oxfr";
/// Bytes before the payload.
pub(crate) const HEAD: usize = 12;
/// No payload is larger; a length beyond it is damage.
pub(crate) const MAX_PAYLOAD: usize = 256 << 20;

pub(crate) fn checksum(salt: u32, payload: &[u8]) -> u32 {
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

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
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
