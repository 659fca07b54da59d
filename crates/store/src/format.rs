//! What a data directory says that it is, and the step from one format to the next.
//!
//! `FORMAT` holds one line. It names the newest format that any file of the directory may have, so that a release which
//! does not know that format refuses the directory instead of misreading it. The formats differ in the segments of
//! the log only ([`crate::wal`]): whatever was written in an earlier one stays as it is and is read as it is, until a
//! checkpoint makes it superfluous. So a directory is upgraded by the first write to it: `FORMAT` is replaced, and
//! only when that is durable a segment of the new format is begun.

use std::io::{self, Read};

use crate::disk::Disk;
use crate::embedded::OpenError;

pub(crate) const FILE: &str = "FORMAT";
const TEMPORARY: &str = "FORMAT.tmp";

/// How batches stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    /// Frames one after another: [`crate::wal`]'s `plain`.
    Plain,
    /// Frames with a mark in each sector: [`crate::wal`]'s `marked`.
    Marked,
}

impl Format {
    /// What this release writes.
    pub(crate) const CURRENT: Format = Format::Marked;

    const ALL: [Format; 2] = [Format::Plain, Format::Marked];

    fn text(self) -> &'static [u8] {
        match self {
            Format::Plain => b"oxikube-store 1\n",
            Format::Marked => b"oxikube-store 2\n",
        }
    }
}

/// What the directory says that it is, if it is a store at all.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Format>, OpenError> {
    let names = disk
        .list()
        .map_err(OpenError::io("list the data directory"))?;
    if !names.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    let mut found = Vec::new();
    disk.open_read(FILE)
        .and_then(|file| file.take(100).read_to_end(&mut found))
        .map_err(OpenError::io("read the format of the data directory"))?;
    let known = Format::ALL.into_iter().find(|known| known.text() == found);
    known.map(Some).ok_or_else(|| OpenError::Format {
        file: disk.describe(FILE),
        found: String::from_utf8_lossy(&found).trim().to_owned(),
    })
}

/// Says what the directory is; durable when this returns, and before that what it was.
pub(crate) fn declare(disk: &dyn Disk, format: Format) -> io::Result<()> {
    let mut file = disk.create(TEMPORARY)?;
    file.append(format.text())?;
    file.sync()?;
    disk.rename(TEMPORARY, FILE)?;
    disk.sync_names()
}
