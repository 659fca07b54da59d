//! Checkpoints: the state at one revision, so that the log before it can go.
//!
//! A checkpoint is taken at the revision of the last compaction, not at the current one: replay
//! of the log behind it then brings the whole readable history back, and watches resume over a
//! restart. It is written beside the running store, piece by piece, into a temporary file that
//! gets its name only when it is whole and synced.
//!
//! `checkpoint-<revision>.db`: a head frame (salt 0) with the salt and the revision; frames of
//! keys in order; a last frame with their number.

use std::io::{self, BufReader};
use std::sync::Arc;

use crate::Revision;
use crate::disk::Disk;
use crate::embedded::OpenError;
use crate::frame;
use crate::history::{History, Version};
use crate::published::{Pin, Published};
use crate::record::{Reader, put_bytes, put_number};

const HEAD_TAG: &[u8; 8] = b"oxi-ckp1";
const TEMPORARY: &str = "checkpoint.tmp";
const KEYS: u8 = 1;
const END: u8 = 2;
/// Keys visited under the lock in one go.
const PIECE: usize = 512;
/// Bytes collected before they are written.
const CHUNK: usize = 1 << 20;

pub(crate) fn checkpoint_name(revision: Revision) -> String {
    format!("checkpoint-{revision:020}.db")
}

/// The revisions of all checkpoints, oldest first.
pub(crate) fn checkpoint_revisions(disk: &dyn Disk) -> io::Result<Vec<Revision>> {
    let revision = |name: &String| -> Option<Revision> {
        name.strip_prefix("checkpoint-")?
            .strip_suffix(".db")?
            .parse()
            .ok()
    };
    let mut revisions: Vec<Revision> = disk.list()?.iter().filter_map(revision).collect();
    revisions.sort_unstable();
    Ok(revisions)
}

/// A checkpoint to be written. Holds its revision readable until it is dropped.
pub(crate) struct Job {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) published: Arc<Published>,
    pub(crate) revision: Revision,
    pub(crate) salt: u32,
    pub(crate) _pin: Pin,
}

impl Job {
    /// Writes it. `Interrupted` when the store was closed meanwhile.
    pub(crate) fn run(&self) -> io::Result<()> {
        let written = self.write();
        if written.is_err() {
            // Whatever is wrong, the next attempt begins the file anew.
            let _ = self.disk.remove(TEMPORARY);
        }
        written
    }

    fn write(&self) -> io::Result<()> {
        let mut out = Vec::new();
        frame::write(&mut out, 0, |out| {
            out.extend_from_slice(HEAD_TAG);
            out.extend_from_slice(&self.salt.to_le_bytes());
            put_number(out, self.revision);
        });
        let mut file = self.disk.create(TEMPORARY)?;
        let mut total = 0;
        let mut next = Some(bytes::Bytes::new());
        while let Some(from) = next {
            if self.published.is_closed() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let (found, rest) =
                self.published
                    .read()
                    .history
                    .versions_at(&from, self.revision, PIECE);
            next = rest;
            total += found.len() as u64;
            if !found.is_empty() {
                frame::write(&mut out, self.salt, |out| {
                    out.push(KEYS);
                    found
                        .iter()
                        .for_each(|(key, version)| put_version(out, key, version));
                });
            }
            if out.len() >= CHUNK {
                file.append(&out)?;
                out.clear();
            }
        }
        frame::write(&mut out, self.salt, |out| {
            out.push(END);
            put_number(out, total);
        });
        file.append(&out)?;
        file.sync()?;
        self.disk
            .rename(TEMPORARY, &checkpoint_name(self.revision))?;
        self.disk.sync_names()
    }
}

fn put_version(out: &mut Vec<u8>, key: &[u8], version: &Version) {
    put_bytes(out, key);
    put_bytes(out, &version.value);
    put_number(out, version.create_revision);
    put_number(out, version.mod_revision);
    put_number(out, version.version);
    put_number(out, version.lease);
}

/// Loads the newest checkpoint that is sound; an empty store when there is none.
pub(crate) fn load(disk: &dyn Disk) -> Result<History, OpenError> {
    let list = OpenError::io("list the data directory");
    let mut damage = None;
    for revision in checkpoint_revisions(disk).map_err(list)?.into_iter().rev() {
        match read(disk, revision) {
            Ok(history) => return Ok(history),
            Err(error @ OpenError::Damaged { .. }) => {
                tracing::warn!("{error}; trying an older checkpoint");
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match damage {
        Some(error) => Err(error),
        None => Ok(History::empty()),
    }
}

fn read(disk: &dyn Disk, revision: Revision) -> Result<History, OpenError> {
    let name = checkpoint_name(revision);
    let mut offset = 0;
    let mut history = History::starting_at(revision);
    read_into(disk, &name, &mut offset, &mut history).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => OpenError::Damaged {
            file: disk.describe(&name),
            offset,
            what: "the checkpoint is not sound".into(),
        },
        _ => OpenError::io("read the checkpoint")(error),
    })?;
    Ok(history)
}

fn read_into(
    disk: &dyn Disk,
    name: &str,
    offset: &mut u64,
    history: &mut History,
) -> io::Result<()> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let mut file = BufReader::with_capacity(256 << 10, disk.open_read(name)?);
    let mut payload = Vec::new();
    frame::read(&mut file, 0, &mut payload)?;
    let (salt, rest) = payload
        .strip_prefix(HEAD_TAG)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .ok_or_else(damaged)?;
    let salt = u32::from_le_bytes(*salt);
    if Reader(rest).number() != Some(history.revision()) {
        return Err(damaged());
    }
    let mut total = 0;
    loop {
        *offset += (frame::HEAD + payload.len()) as u64;
        frame::read(&mut file, salt, &mut payload)?;
        let mut reader = Reader(&payload);
        match reader.byte() {
            Some(KEYS) => {
                while !reader.0.is_empty() {
                    let (key, version) = read_version(&mut reader).ok_or_else(damaged)?;
                    history.load(key, version);
                    total += 1;
                }
            }
            Some(END) if reader.number() == Some(total) => return Ok(()),
            _ => return Err(damaged()),
        }
    }
}

fn read_version(reader: &mut Reader<'_>) -> Option<(bytes::Bytes, Version)> {
    let (key, value) = (reader.bytes()?, reader.bytes()?);
    let version = Version {
        value,
        create_revision: reader.number()?,
        mod_revision: reader.number()?,
        version: reader.number()?,
        lease: reader.number()?,
    };
    Some((key, version))
}
