//! What the frames say: batches of commits in the log, versions of keys in a checkpoint.
//!
//! Numbers are LEB128. A put carries no version and no creation revision: replay has the key's
//! state before it and finds the same ones again.

use bytes::Bytes;

use crate::{Event, EventKind, Revision};

/// One thing that a batch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A transaction: its revision and changes.
    Commit(Revision, Vec<Change>),
    /// History before this revision was given up.
    Compact(Revision),
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The key got a value, until `deadline` (milliseconds since 1970; 0 is for ever).
    Put {
        key: Bytes,
        value: Bytes,
        deadline: u64,
    },
    /// The key went away.
    Delete { key: Bytes },
}

/// All that was written and synced together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchRecord {
    /// One more than that of the batch before.
    pub(crate) sequence: u64,
    /// When, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// In order.
    pub(crate) entries: Vec<Entry>,
}

const COMMIT: u8 = 1;
const COMPACT: u8 = 2;
const PUT: u8 = 1;
const DELETE: u8 = 2;

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what `put_number` and `put_bytes` wrote; `None` once something does not fit.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A copy of its own, so that a key kept in memory does not hold the whole file.
    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.number()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(taken))
    }
}

/// Begins a batch; [`put_commit`] and [`put_compact`] go on.
pub(crate) fn put_batch_head(out: &mut Vec<u8>, sequence: u64, time_ms: u64) {
    out.extend_from_slice(&sequence.to_le_bytes());
    put_number(out, time_ms);
}

/// Adds a transaction to a batch.
pub(crate) fn put_commit(out: &mut Vec<u8>, revision: Revision, events: &[Event]) {
    out.push(COMMIT);
    put_number(out, revision);
    put_number(out, events.len() as u64);
    for event in events {
        match event.kind {
            EventKind::Put => {
                out.push(PUT);
                put_bytes(out, &event.kv.key);
                put_bytes(out, &event.kv.value);
                put_number(out, event.kv.lease.map_or(0, |lease| lease.0));
            }
            EventKind::Delete => {
                out.push(DELETE);
                put_bytes(out, &event.kv.key);
            }
        }
    }
}

/// Adds a compaction to a batch.
pub(crate) fn put_compact(out: &mut Vec<u8>, revision: Revision) {
    out.push(COMPACT);
    put_number(out, revision);
}

/// The sequence number of a batch without the rest.
pub(crate) fn sequence_of(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*payload.first_chunk::<8>()?))
}

/// Reads a batch; `None` when the bytes are none.
pub(crate) fn read_batch(payload: &[u8]) -> Option<BatchRecord> {
    let sequence = sequence_of(payload)?;
    let mut reader = Reader(&payload[8..]);
    let time_ms = reader.number()?;
    let mut entries = Vec::new();
    while !reader.0.is_empty() {
        entries.push(match reader.byte()? {
            COMMIT => read_commit(&mut reader)?,
            COMPACT => Entry::Compact(reader.number()?),
            _ => return None,
        });
    }
    Some(BatchRecord {
        sequence,
        time_ms,
        entries,
    })
}

fn read_commit(reader: &mut Reader<'_>) -> Option<Entry> {
    let revision = reader.number()?;
    let count = reader.number()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        changes.push(match reader.byte()? {
            PUT => Change::Put {
                key: reader.bytes()?,
                value: reader.bytes()?,
                deadline: reader.number()?,
            },
            DELETE => Change::Delete {
                key: reader.bytes()?,
            },
            _ => return None,
        });
    }
    Some(Entry::Commit(revision, changes))
}
