//! The write-ahead log: segments of frames, one frame for each batch of transactions.
//!
//! A batch is written only after the one before it is known to be on disk. So the only frame
//! that may be torn is the last one, nothing in it was ever acknowledged, and recovery cuts it. A
//! broken frame that is followed by a sound one, or that is whole and yet wrong, is damage, and
//! damage is an error that names the place, never a shorter history.
//!
//! Segment `wal-<index>.log`: a head frame (salt 0) with the index, the salt of the segment and
//! what came before its first batch; then batches. A segment is begun, and its name made
//! durable, before anything is put into it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use crate::Revision;
use crate::disk::{Disk, File, is_no_space};
use crate::embedded::OpenError;
use crate::frame;
use crate::record::{BatchRecord, Reader, put_number, read_batch, sequence_of};

const HEAD_TAG: &[u8; 8] = b"oxi-wal1";

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
    salt: u32,
    next_sequence: u64,
    last_revision: Revision,
    buffer: Vec<u8>,
}

pub(crate) fn segment_name(index: u64) -> String {
    format!("wal-{index:016x}.log")
}

pub(crate) fn segment_index(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("wal-")?.strip_suffix(".log")?, 16).ok()
}

/// The indexes of all segments, in order.
pub(crate) fn segment_indexes(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut indexes: Vec<u64> = disk
        .list()?
        .iter()
        .filter_map(|name| segment_index(name))
        .collect();
    indexes.sort_unstable();
    Ok(indexes)
}

struct Head {
    index: u64,
    salt: u32,
    /// That of its first batch.
    first_sequence: u64,
    /// What the log had come to before it.
    after: Revision,
}

fn write_head(out: &mut Vec<u8>, head: &Head) {
    frame::write(out, 0, |out| {
        out.extend_from_slice(HEAD_TAG);
        out.extend_from_slice(&head.salt.to_le_bytes());
        put_number(out, head.index);
        put_number(out, head.first_sequence);
        put_number(out, head.after);
    });
}

/// The head and where it ends.
fn read_head(bytes: &[u8]) -> Option<(Head, usize)> {
    let payload = frame::parse(bytes, 0, 0)?;
    let len = payload.end;
    let (salt, rest) = bytes[payload]
        .strip_prefix(HEAD_TAG)?
        .split_first_chunk::<4>()?;
    let salt = u32::from_le_bytes(*salt);
    let mut reader = Reader(rest);
    let head = Head {
        salt,
        index: reader.number()?,
        first_sequence: reader.number()?,
        after: reader.number()?,
    };
    Some((head, len))
}

impl Log {
    /// Begins a log in an empty directory.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        salt: u32,
        revision: Revision,
    ) -> io::Result<Log> {
        let (file, bytes) = begin_segment(
            &*disk,
            &Head {
                index: 1,
                salt,
                first_sequence: 1,
                after: revision,
            },
        )?;
        Ok(Log {
            disk,
            segment_bytes,
            segments: VecDeque::from([Segment {
                index: 1,
                last_revision: revision,
                bytes,
            }]),
            file,
            salt,
            next_sequence: 1,
            last_revision: revision,
            buffer: Vec::new(),
        })
    }

    /// Reads the whole log, hands each batch to `replay` (which answers with the revision that it
    /// has come to, or with what is wrong), cuts a torn end and opens the log behind it.
    pub(crate) fn recover(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
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
            segment_bytes,
            segments,
            file,
            salt: end.salt,
            next_sequence,
            last_revision: revision,
            buffer: Vec::new(),
            disk,
        })
    }

    /// The sequence number that the next batch carries.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether the last segment is full, so that [`Log::rotate`] is due before the next batch.
    pub(crate) fn is_full(&self) -> bool {
        self.segments
            .back()
            .is_some_and(|last| last.bytes >= self.segment_bytes)
    }

    /// Begins a new segment. Everything in the old one has been synced.
    pub(crate) fn rotate(&mut self, salt: u32) -> Result<(), AppendError> {
        let index = self.segments.back().expect("a log has a segment").index + 1;
        let first_sequence = self.next_sequence;
        let head = Head {
            index,
            salt,
            first_sequence,
            after: self.last_revision,
        };
        match begin_segment(&*self.disk, &head) {
            Ok((file, bytes)) => {
                self.file = file;
                self.salt = salt;
                let last_revision = self.last_revision;
                self.segments.push_back(Segment {
                    index,
                    last_revision,
                    bytes,
                });
                Ok(())
            }
            Err(error) if is_no_space(&error) => Err(AppendError::NoSpace),
            Err(error) => Err(AppendError::Io(error)),
        }
    }

    /// Appends a batch that ends at `revision`; `fill` writes it. Not durable yet.
    pub(crate) fn append(
        &mut self,
        revision: Revision,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), AppendError> {
        assert!(revision >= self.last_revision, "the log goes forward");
        self.buffer.clear();
        frame::write(&mut self.buffer, self.salt, fill);
        let last = self.segments.back_mut().expect("a log has a segment");
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

fn begin_segment(disk: &dyn Disk, head: &Head) -> io::Result<(Box<dyn File>, u64)> {
    let mut bytes = Vec::new();
    write_head(&mut bytes, head);
    let mut file = disk.create(&segment_name(head.index))?;
    file.append(&bytes)?;
    file.sync()?;
    disk.sync_names()?;
    Ok((file, bytes.len() as u64))
}

/// Opens a segment at its end, and makes sure that what was read of it is on the disk.
///
/// It may be in the page cache only, and from now on it is seen. Syncing the file is not enough:
/// after a sync that failed, the system takes the pages for written. So the file is written anew.
/// Without room for that, the old one is all there is.
fn reopen(disk: &dyn Disk, name: &str, len: u64) -> Result<Box<dyn File>, OpenError> {
    let temporary = format!("{name}.tmp");
    let copy = || {
        let mut bytes = Vec::new();
        disk.open_read(name)?.take(len).read_to_end(&mut bytes)?;
        let mut file = disk.create(&temporary)?;
        file.append(&bytes)?;
        file.sync()?;
        disk.rename(&temporary, name)?;
        disk.sync_names()?;
        Ok(file)
    };
    match copy() {
        Ok(file) => Ok(file),
        Err(error) if is_no_space(&error) => {
            let _ = disk.remove(&temporary);
            tracing::warn!("no room to write the end of the log anew: {error}");
            let mut file = disk
                .open_append(name)
                .map_err(OpenError::io("open the log"))?;
            file.truncate(len).map_err(OpenError::io("cut the log"))?;
            file.sync().map_err(OpenError::io("sync the log"))?;
            Ok(file)
        }
        Err(error) => Err(OpenError::io("write the end of the log anew")(error)),
    }
}

/// How the last segment ends.
struct End {
    salt: u32,
    torn: usize,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    segments: VecDeque<Segment>,
    revision: Revision,
    /// That of the next batch, once known.
    sequence: Option<u64>,
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
    fn drop_unborn(&self, indexes: &mut Vec<u64>) -> Result<(), OpenError> {
        let Some(&last) = indexes.last() else {
            return Ok(());
        };
        let bytes = self.load(last)?;
        let mut head = Vec::new();
        let longest = Head {
            index: last,
            salt: 0,
            first_sequence: u64::MAX,
            after: u64::MAX,
        };
        write_head(&mut head, &longest);
        if indexes.len() > 1 && read_head(&bytes).is_none() && bytes.len() <= head.len() {
            self.disk
                .remove(&segment_name(last))
                .map_err(OpenError::io("remove a segment"))?;
            indexes.pop();
        }
        Ok(())
    }

    /// Takes out what lies before a gap. After a checkpoint old segments are removed, and a crash
    /// may leave any of them; whether one is missing that is needed, the heads tell.
    fn drop_superfluous(&self, indexes: &mut Vec<u64>) -> Vec<u64> {
        let gap = indexes.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        let rest = indexes.split_off(gap.map_or(0, |at| at + 1));
        std::mem::replace(indexes, rest)
    }

    fn segment(
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
        while let Some(payload) = frame::parse(&bytes, at, head.salt) {
            let end = payload.end;
            let sequence = self.sequence.unwrap_or(expected);
            let batch = read_batch(&bytes[payload])
                .filter(|batch| batch.sequence == sequence)
                .ok_or_else(|| self.damaged(index, at, "a record is out of order"))?;
            self.revision = replay(batch).map_err(|what| self.damaged(index, at, what))?;
            self.sequence = Some(sequence + 1);
            at = end;
        }
        let torn = bytes.len() - at;
        if torn > 0 {
            self.check_torn(&bytes, at, index, head.salt, is_last)?;
        }
        self.segments.push_back(Segment {
            index,
            last_revision: self.revision,
            bytes: at as u64,
        });
        Ok(End {
            salt: head.salt,
            torn,
        })
    }

    /// Whether what follows a broken frame is only the rest of a write that was never finished.
    fn check_torn(
        &self,
        bytes: &[u8],
        at: usize,
        index: u64,
        salt: u32,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let what = "a record is damaged although later ones were written after it";
        if !is_last {
            return Err(self.damaged(index, at, what));
        }
        for (_, payload) in frame::search(bytes, at + 1, salt) {
            if sequence_of(&bytes[payload]) > self.sequence {
                return Err(self.damaged(index, at, what));
            }
        }
        if !frame::is_torn(bytes, at, salt) {
            let what = "the last record is damaged, and not as an unfinished write would be";
            return Err(self.damaged(index, at, what));
        }
        Ok(())
    }
}
