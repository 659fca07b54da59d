//! The write-ahead log: segments of records, one record for each batch of transactions.
//!
//! A batch is written only after the one before it is known to be on disk. So the only record
//! that may be torn is the last one, nothing in it was ever acknowledged, and recovery cuts it. A
//! broken record that is followed by a sound one, or that is whole and yet wrong, is damage, and
//! damage is an error that names the place, never a shorter history.
//!
//! Segment `wal-<index>.log`: a head frame (salt 0) with the format, the index, the salt of the
//! segment and what came before its first batch; then batches, in [`marked`] as in all
//! segments begun by this release or in [`plain`]. A segment is begun, and its name made durable,
//! before anything is put into it.

mod marked;
mod plain;
mod recovery;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::Revision;
use crate::disk::{Disk, File, is_no_space};
use crate::embedded::OpenError;
use crate::format::{self, Format};
use crate::record::BatchRecord;
use recovery::Recovery;
use segment::{Head, begin_segment, reopen, write_batch};
pub(crate) use segment::{segment_index, segment_indexes, segment_name};

/// The proof that everything up to a revision is on disk. In this engine only [`Log::sync`] makes
/// one.
#[derive(Debug)]
pub(crate) struct Durable {
    revision: Revision,
}

impl Durable {
    /// For a replica: the store that was copied says so.
    pub(crate) fn vouched(revision: Revision) -> Durable {
        Durable { revision }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

/// Why a batch was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// No room; the log is as it was before.
    NoSpace,
    /// The log is in an unknown state.
    Io(io::Error),
}

struct Segment {
    index: u64,
    /// Of its last batch, or the one before when it has none.
    last_revision: Revision,
    bytes: u64,
}

/// The log, open at its end.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    /// The last one is being written.
    segments: VecDeque<Segment>,
    file: Box<dyn File>,
    /// Of the last segment.
    format: Format,
    /// Of the segments that are begun from now on.
    writes: Format,
    /// What the directory says that it is.
    declared: Format,
    salt: u32,
    next_sequence: u64,
    last_revision: Revision,
    payload: Vec<u8>,
    buffer: Vec<u8>,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// It goes on in a new segment after so many bytes.
    pub(crate) segment_bytes: u64,
    /// What the directory says that it is.
    pub(crate) declared: Format,
    /// Of the segments that are begun.
    pub(crate) writes: Format,
}

impl Log {
    /// Begins a log in an empty directory.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        shape: Shape,
        salt: u32,
        revision: Revision,
    ) -> io::Result<Log> {
        let head = Head {
            format: shape.writes,
            index: 1,
            salt,
            first_sequence: 1,
            after: revision,
        };
        let (file, bytes) = begin_segment(&*disk, &head)?;
        Ok(Log {
            disk,
            segment_bytes: shape.segment_bytes,
            format: shape.writes,
            writes: shape.writes,
            declared: shape.declared,
            segments: VecDeque::from([Segment {
                index: 1,
                last_revision: revision,
                bytes,
            }]),
            file,
            salt,
            next_sequence: 1,
            last_revision: revision,
            payload: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Reads the whole log, hands each batch to `replay` (which answers with the revision that it
    /// has come to, or with what is wrong), cuts a torn end and opens the log behind it.
    pub(crate) fn recover(
        disk: Arc<dyn Disk>,
        shape: Shape,
        start: Revision,
        replay: &mut dyn FnMut(BatchRecord) -> Result<Revision, String>,
    ) -> Result<Log, OpenError> {
        let mut recovery = Recovery {
            disk: &*disk,
            segments: VecDeque::new(),
            revision: start,
            sequence: None,
        };
        let mut indexes =
            segment_indexes(&*disk).map_err(OpenError::io("list the data directory"))?;
        recovery.drop_unborn(&mut indexes)?;
        let superfluous = recovery.drop_superfluous(&mut indexes);
        let mut end = None;
        for (at, &index) in indexes.iter().enumerate() {
            end = Some(recovery.segment(index, at + 1 == indexes.len(), replay)?);
        }
        let Recovery {
            segments,
            revision,
            sequence,
            ..
        } = recovery;
        let (Some(end), Some(next_sequence)) = (end, sequence) else {
            return Err(OpenError::Damaged {
                file: disk.describe("wal-*.log"),
                offset: 0,
                what: "the write-ahead log is missing".into(),
            });
        };
        let last = segments.back().expect("one was read");
        let name = segment_name(last.index);
        if end.torn > 0 {
            tracing::warn!(
                file = disk.describe(&name),
                offset = last.bytes,
                bytes = end.torn,
                "cutting a write that was never finished off the end of the log"
            );
        }
        let file = reopen(&*disk, &name, last.bytes)?;
        for index in superfluous {
            disk.remove(&segment_name(index))
                .map_err(OpenError::io("remove a segment"))?;
        }
        disk.sync_names()
            .map_err(OpenError::io("sync the data directory"))?;
        Ok(Log {
            segment_bytes: shape.segment_bytes,
            format: end.format,
            writes: shape.writes,
            declared: shape.declared,
            segments,
            file,
            salt: end.salt,
            next_sequence,
            last_revision: revision,
            payload: Vec::new(),
            buffer: Vec::new(),
            disk,
        })
    }

    /// The sequence number that the next batch carries.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether the last segment is full or of an earlier format, so that [`Log::rotate`] is due
    /// before the next batch.
    pub(crate) fn is_full(&self) -> bool {
        let last = self.segments.back();
        self.format < self.writes || last.is_some_and(|last| last.bytes >= self.segment_bytes)
    }

    /// Begins a new segment. Everything in the old one has been synced.
    pub(crate) fn rotate(&mut self, salt: u32) -> Result<(), AppendError> {
        let refused = |error| match is_no_space(&error) {
            true => AppendError::NoSpace,
            false => AppendError::Io(error),
        };
        if self.declared < self.writes {
            format::declare(&*self.disk, self.writes).map_err(refused)?;
            self.declared = self.writes;
        }
        let index = self.segments.back().expect("a log has a segment").index + 1;
        let first_sequence = self.next_sequence;
        let head = Head {
            format: self.writes,
            index,
            salt,
            first_sequence,
            after: self.last_revision,
        };
        let (file, bytes) = begin_segment(&*self.disk, &head).map_err(refused)?;
        self.file = file;
        self.format = self.writes;
        self.salt = salt;
        self.segments.push_back(Segment {
            index,
            last_revision: self.last_revision,
            bytes,
        });
        Ok(())
    }

    /// Appends a batch that ends at `revision`; `fill` writes it. Not durable yet.
    pub(crate) fn append(
        &mut self,
        revision: Revision,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), AppendError> {
        assert!(revision >= self.last_revision, "the log goes forward");
        self.payload.clear();
        self.buffer.clear();
        fill(&mut self.payload);
        let last = self.segments.back_mut().expect("a log has a segment");
        write_batch(
            self.format,
            &mut self.buffer,
            last.bytes,
            self.salt,
            &self.payload,
        );
        match self.file.append(&self.buffer) {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {
                // Synced, so that what is left of this never mixes with what comes after it.
                let cut = self.file.truncate(last.bytes);
                return Err(match cut.and_then(|()| self.file.sync()) {
                    Ok(()) => AppendError::NoSpace,
                    Err(error) => AppendError::Io(error),
                });
            }
            Err(error) => return Err(AppendError::Io(error)),
        }
        last.bytes += self.buffer.len() as u64;
        last.last_revision = revision;
        self.last_revision = revision;
        self.next_sequence += 1;
        // A rare huge transaction should not keep its memory for ever.
        if self.buffer.capacity() > 4 << 20 {
            self.payload = Vec::new();
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> io::Result<Durable> {
        self.file.sync()?;
        Ok(Durable {
            revision: self.last_revision,
        })
    }

    /// Bytes of the segments that hold nothing after the revision.
    pub(crate) fn removable_bytes(&self, revision: Revision) -> u64 {
        self.removable(revision).map(|segment| segment.bytes).sum()
    }

    fn removable(&self, revision: Revision) -> impl Iterator<Item = &Segment> {
        let closed = self.segments.len() - 1;
        self.segments
            .iter()
            .take(closed)
            .take_while(move |old| old.last_revision <= revision)
    }

    /// The closed segments that hold nothing after the revision.
    pub(crate) fn superfluous(&self, revision: Revision) -> Vec<u64> {
        self.removable(revision).map(|old| old.index).collect()
    }

    /// Takes note of segments whose files are gone.
    pub(crate) fn forget(&mut self, indexes: &[u64]) {
        self.segments.retain(|old| !indexes.contains(&old.index));
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}
