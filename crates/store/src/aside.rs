//! A small file beside the store, written as a whole or not at all.
//!
//! For what must survive a restart and yet have no revision, since every revision shows a change of a key: whoever serves
//! the store by another API keeps it here. It is no part of backups.

use std::io::{self, Read};

use crate::disk::Disk;
use crate::embedded::OpenError;
use crate::frame;

const NAME: &str = "aside";
const TAG: &[u8; 8] = b"oxi-side";

/// What was written last, if anything ever was.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Vec<u8>>, OpenError> {
    let mut found = Vec::new();
    match disk.open_read(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened
            .and_then(|mut file| file.read_to_end(&mut found))
            .map_err(OpenError::io("read what is kept beside the store"))?,
    };
    let whole = frame::parse(&found, 0, 0).filter(|payload| payload.end == found.len());
    let content = whole.and_then(|payload| found[payload].strip_prefix(TAG));
    match content {
        Some(content) => Ok(Some(content.to_vec())),
        None => Err(OpenError::Damaged {
            file: disk.describe(NAME),
            offset: 0,
            what: "a checksum does not fit".into(),
        }),
    }
}

/// Puts this in its place; it is on the disk when this returns.
pub(crate) fn write(disk: &dyn Disk, content: &[u8]) -> io::Result<()> {
    let temporary = "aside.tmp";
    let mut bytes = Vec::new();
    frame::write(&mut bytes, 0, |out| {
        out.extend_from_slice(TAG);
        out.extend_from_slice(content);
    });
    let written = (|| {
        let mut file = disk.create(temporary)?;
        file.append(&bytes)?;
        file.sync()?;
        disk.rename(temporary, NAME)?;
        disk.sync_names()
    })();
    if written.is_err() {
        // The next start removes it when this cannot.
        let _ = disk.remove(temporary);
    }
    written
}
