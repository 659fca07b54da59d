//! Segments: their names, their heads, and how the batches behind the head stand.

use std::io::{self, Read};

use super::{marked, plain};
use crate::Revision;
use crate::disk::{Disk, File, is_no_space};
use crate::embedded::OpenError;
use crate::format::Format;
use crate::frame;
use crate::record::{Reader, put_number};

const TAG_LEN: usize = 8;

/// What the head of a segment of this format begins with.
fn tag(format: Format) -> &'static [u8; TAG_LEN] {
    match format {
        Format::Plain => b"oxi-wal1",
        Format::Marked => b"oxi-wal2",
    }
}

/// Appends a batch to `out`, to be written at `at` of a segment.
pub(super) fn write_batch(format: Format, out: &mut Vec<u8>, at: u64, salt: u32, payload: &[u8]) {
    match format {
        Format::Plain => frame::write(out, salt, |out| out.extend_from_slice(payload)),
        Format::Marked => marked::write(out, at as usize, salt, payload),
    }
}

/// The bytes of a segment, and what its head says of how they are to be read.
pub(super) struct Batches<'a> {
    pub(super) format: Format,
    pub(super) bytes: &'a [u8],
    pub(super) salt: u32,
}

impl Batches<'_> {
    /// Reads the batch at `at` into `payload`, and says where it ends, if there is a whole and sound one.
    pub(super) fn read(&self, at: usize, payload: &mut Vec<u8>) -> Option<usize> {
        match self.format {
            Format::Marked => marked::read(self.bytes, at, self.salt, payload),
            Format::Plain => {
                let found = frame::parse(self.bytes, at, self.salt)?;
                payload.clear();
                payload.extend_from_slice(&self.bytes[found.clone()]);
                Some(found.end)
            }
        }
    }

    /// Whether one of the sound batches that begin after `at` is as asked.
    pub(super) fn any_after(&self, at: usize, mut is_it: impl FnMut(&[u8]) -> bool) -> bool {
        match self.format {
            Format::Marked => marked::any_after(self.bytes, at, self.salt, is_it),
            Format::Plain => plain::search(self.bytes, at + 1, self.salt)
                .any(|(_, payload)| is_it(&self.bytes[payload])),
        }
    }

    /// Whether the broken batch at `at` is what an unfinished write leaves.
    pub(super) fn is_torn(&self, at: usize) -> bool {
        match self.format {
            Format::Marked => marked::is_torn(self.bytes, at, self.salt),
            Format::Plain => plain::is_torn(self.bytes, at, self.salt),
        }
    }
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

/// What a segment begins with.
pub(super) struct Head {
    pub(super) format: Format,
    pub(super) index: u64,
    pub(super) salt: u32,
    /// That of its first batch.
    pub(super) first_sequence: u64,
    /// What the log had come to before it.
    pub(super) after: Revision,
}

/// A head has at most so many bytes.
pub(super) const LONGEST_HEAD: usize = frame::HEAD + TAG_LEN + 4 + 3 * 10;

fn write_head(out: &mut Vec<u8>, head: &Head) {
    frame::write(out, 0, |out| {
        out.extend_from_slice(tag(head.format));
        out.extend_from_slice(&head.salt.to_le_bytes());
        put_number(out, head.index);
        put_number(out, head.first_sequence);
        put_number(out, head.after);
    });
}

/// The head and where it ends.
pub(super) fn read_head(bytes: &[u8]) -> Option<(Head, usize)> {
    let payload = frame::parse(bytes, 0, 0)?;
    let len = payload.end;
    let (found, rest) = bytes[payload].split_first_chunk::<TAG_LEN>()?;
    let known = [Format::Plain, Format::Marked];
    let format = known.into_iter().find(|format| tag(*format) == found)?;
    let (salt, rest) = rest.split_first_chunk::<4>()?;
    let mut reader = Reader(rest);
    let head = Head {
        format,
        salt: u32::from_le_bytes(*salt),
        index: reader.number()?,
        first_sequence: reader.number()?,
        after: reader.number()?,
    };
    Some((head, len))
}

/// Begins a segment: it has its name and its head for good when this returns.
pub(super) fn begin_segment(disk: &dyn Disk, head: &Head) -> io::Result<(Box<dyn File>, u64)> {
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
pub(super) fn reopen(disk: &dyn Disk, name: &str, len: u64) -> Result<Box<dyn File>, OpenError> {
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
