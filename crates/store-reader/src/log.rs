//! The log, batch by batch.

use crate::frames::{Frames, Words};
use crate::records::Records;
use crate::{Contents, Entry, Problem, damaged};

/// The batches of a segment.
pub(crate) trait Batches {
    /// Where the next one begins.
    fn at(&self) -> usize;
    /// The payload of the next one, if it is sound.
    fn next(&mut self) -> Option<Vec<u8>>;
    /// Whether there is a sound one anywhere behind the next byte.
    fn any_after(&self) -> bool;
    /// Whether the next one, which is not sound, may never have been written as a whole.
    fn may_be_unfinished(&self) -> bool;
}

struct Head {
    format: u32,
    salt: u32,
    index: u64,
    first: u64,
    after: u64,
}

/// A segment's head, and where it ends.
fn head(bytes: &[u8]) -> Option<(Head, usize)> {
    let mut frames = Frames::from(bytes, 0, 0);
    let head = frames.next()?;
    let (tag, rest) = head.split_first_chunk::<8>()?;
    let format = match tag {
        b"oxi-wal1" => 1,
        b"oxi-wal2" => 2,
        _ => return None,
    };
    let (salt, rest) = rest.split_first_chunk::<4>()?;
    let mut words = Words(rest);
    let head = Head {
        format,
        salt: u32::from_le_bytes(*salt),
        index: words.number()?,
        first: words.number()?,
        after: words.number()?,
    };
    Some((head, frames.at()))
}

/// What the log has come to.
pub(crate) struct Log {
    contents: Contents,
    next_batch: Option<u64>,
    /// That of the segment before.
    format: u32,
}

impl Log {
    pub(crate) fn after(contents: Contents) -> Log {
        Log {
            contents,
            next_batch: None,
            format: 1,
        }
    }

    pub(crate) fn contents(self) -> Contents {
        self.contents
    }

    /// Reads the next segment.
    pub(crate) fn segment(
        &mut self,
        name: &str,
        index: u64,
        bytes: &[u8],
        last: bool,
    ) -> Result<(), Problem> {
        let wrong = |at: usize, what: &str| damaged(name, at, what);
        let Some((head, at)) = head(bytes).filter(|(head, _)| head.index == index) else {
            // A crash may meet a segment that has just been begun, and holds nothing.
            let begun = last && self.next_batch.is_some() && bytes.len() < 64;
            return match begun {
                true => Ok(()),
                false => Err(wrong(0, "the head of the segment is not sound")),
            };
        };
        if *self.next_batch.get_or_insert(head.first) != head.first
            || head.after > self.contents.revision
        {
            return Err(wrong(0, "the segment before this one is missing"));
        }
        if head.format < self.format || head.format > self.contents.format {
            return Err(wrong(0, "a segment of this format cannot stand here"));
        }
        self.format = head.format;
        self.contents.log_bytes += bytes.len() as u64;
        let mut batches: Box<dyn Batches> = match head.format {
            1 => Box::new(Frames::from(bytes, at, head.salt)),
            _ => Box::new(Records::from(bytes, at, head.salt)),
        };
        loop {
            let at = batches.at();
            let Some(payload) = batches.next() else {
                break;
            };
            self.batch(&payload)
                .ok_or_else(|| wrong(at, "a record says what cannot be"))?;
        }
        let rest = (bytes.len() - batches.at()) as u64;
        if rest > 0 && !last {
            return Err(wrong(batches.at(), "a record is damaged"));
        }
        if rest > 0 && batches.any_after() {
            let what = "a record is damaged before sound ones";
            return Err(wrong(batches.at(), what));
        }
        if rest > 0 && !batches.may_be_unfinished() {
            let what = "the last record is damaged, and no write that was never finished";
            return Err(wrong(batches.at(), what));
        }
        self.contents.unfinished = rest;
        Ok(())
    }

    fn batch(&mut self, payload: &[u8]) -> Option<()> {
        let number = u64::from_le_bytes(*payload.first_chunk::<8>()?);
        if self.next_batch != Some(number) {
            return None;
        }
        self.next_batch = Some(number + 1);
        self.contents.batches += 1;
        let mut words = Words(&payload[8..]);
        words.number()?;
        while !words.is_empty() {
            match words.byte()? {
                1 => self.commit(&mut words)?,
                2 => {
                    let before = words.number()?.min(self.contents.revision);
                    self.contents.compacted = self.contents.compacted.max(before);
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn commit(&mut self, words: &mut Words<'_>) -> Option<()> {
        let (revision, count) = (words.number()?, words.number()?);
        // The checkpoint has it already.
        let passed = self.contents.checkpoint.is_some_and(|at| revision <= at);
        if !passed && revision != self.contents.revision + 1 {
            return None;
        }
        let keys = &mut self.contents.keys;
        for _ in 0..count {
            let kind = words.byte()?;
            let key = words.bytes()?.to_vec();
            match kind {
                1 => {
                    let (value, lease) = (words.bytes()?.to_vec(), words.number()?);
                    if passed {
                        continue;
                    }
                    let before = keys.get(&key);
                    let entry = Entry {
                        value,
                        created: before.map_or(revision, |entry| entry.created),
                        written: revision,
                        version: before.map_or(0, |entry| entry.version) + 1,
                        lease,
                    };
                    keys.insert(key, entry);
                }
                2 if passed => {}
                2 => drop(keys.remove(&key)?),
                _ => return None,
            }
        }
        if !passed {
            self.contents.revision = revision;
        }
        Some(())
    }
}
