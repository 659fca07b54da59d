//! Reading the log back: what is whole, what was never finished, what is damaged.

use std::collections::VecDeque;
use std::io::Read;

use super::Segment;
use super::segment::{Batches, LONGEST_HEAD, read_head, segment_name};
use crate::Revision;
use crate::disk::Disk;
use crate::embedded::OpenError;
use crate::format::Format;
use crate::record::{BatchRecord, read_batch, sequence_of};

/// How the last segment ends.
pub(super) struct End {
    pub(super) format: Format,
    pub(super) salt: u32,
    pub(super) torn: usize,
}

/// What has been read so far.
pub(super) struct Recovery<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) segments: VecDeque<Segment>,
    pub(super) revision: Revision,
    /// That of the next batch, once known.
    pub(super) sequence: Option<u64>,
}

impl Recovery<'_> {
    fn load(&self, index: u64) -> Result<Vec<u8>, OpenError> {
        let mut bytes = Vec::new();
        self.disk
            .open_read(&segment_name(index))
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(OpenError::io("read the log"))?;
        Ok(bytes)
    }

    fn damaged(&self, index: u64, offset: usize, what: impl Into<String>) -> OpenError {
        OpenError::Damaged {
            file: self.disk.describe(&segment_name(index)),
            offset: offset as u64,
            what: what.into(),
        }
    }

    /// Forgets a last segment whose beginning never got to the disk: a crash met it while it was
    /// being begun, and nothing was put into it.
    pub(super) fn drop_unborn(&self, indexes: &mut Vec<u64>) -> Result<(), OpenError> {
        let Some(&last) = indexes.last() else {
            return Ok(());
        };
        let bytes = self.load(last)?;
        if indexes.len() > 1 && read_head(&bytes).is_none() && bytes.len() <= LONGEST_HEAD {
            self.disk
                .remove(&segment_name(last))
                .map_err(OpenError::io("remove a segment"))?;
            indexes.pop();
        }
        Ok(())
    }

    /// Takes out what lies before a gap. After a checkpoint old segments are removed, and a crash
    /// may leave any of them; whether one is missing that is needed, the heads tell.
    pub(super) fn drop_superfluous(&self, indexes: &mut Vec<u64>) -> Vec<u64> {
        let gap = indexes.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        let rest = indexes.split_off(gap.map_or(0, |at| at + 1));
        std::mem::replace(indexes, rest)
    }

    pub(super) fn segment(
        &mut self,
        index: u64,
        is_last: bool,
        replay: &mut dyn FnMut(BatchRecord) -> Result<Revision, String>,
    ) -> Result<End, OpenError> {
        let bytes = self.load(index)?;
        let head = read_head(&bytes).filter(|(head, _)| head.index == index);
        let Some((head, mut at)) = head else {
            return Err(self.damaged(index, 0, "the head of the segment is not sound"));
        };
        let expected = *self.sequence.get_or_insert(head.first_sequence);
        if head.first_sequence != expected || head.after > self.revision {
            return Err(self.damaged(index, 0, "the segment before this one is missing"));
        }
        let batches = Batches {
            format: head.format,
            bytes: &bytes,
            salt: head.salt,
        };
        let mut payload = Vec::new();
        while let Some(end) = batches.read(at, &mut payload) {
            let sequence = self.sequence.unwrap_or(expected);
            let batch = read_batch(&payload)
                .filter(|batch| batch.sequence == sequence)
                .ok_or_else(|| self.damaged(index, at, "a record is out of order"))?;
            self.revision = replay(batch).map_err(|what| self.damaged(index, at, what))?;
            self.sequence = Some(sequence + 1);
            at = end;
        }
        let torn = bytes.len() - at;
        if torn > 0 {
            self.check_torn(&batches, at, index, is_last)?;
        }
        self.segments.push_back(Segment {
            index,
            last_revision: self.revision,
            bytes: at as u64,
        });
        Ok(End {
            format: head.format,
            salt: head.salt,
            torn,
        })
    }

    /// Whether what follows a broken frame is only the rest of a write that was never finished.
    fn check_torn(
        &self,
        batches: &Batches<'_>,
        at: usize,
        index: u64,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let is_later = |payload: &[u8]| sequence_of(payload) > self.sequence;
        if !is_last || batches.any_after(at, is_later) {
            let what = "a record is damaged although later ones were written after it";
            return Err(self.damaged(index, at, what));
        }
        if !batches.is_torn(at) {
            let what = "the last record is damaged, and not as an unfinished write would be";
            return Err(self.damaged(index, at, what));
        }
        Ok(())
    }
}
