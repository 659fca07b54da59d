//! Checkpoints: the state at one revision, so that the log before it can go.
//!
//! A checkpoint is taken at the revision of the last compaction, not at the current one: replay
//! of the log behind it then brings the whole readable history back, and watches resume over a
//! restart. It is written beside the running store, piece by piece, into a temporary file that
//! gets its name only when it is whole and synced.
//!
//! `checkpoint-<revision>.db`: a head frame (salt 0) with the salt and the revision; frames of
//! keys in order; a last frame with their number.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::Revision;
use crate::disk::{Disk, File};
use crate::embedded::OpenError;
use crate::frame;
use crate::history::{History, Version};
use crate::published::{Pin, Published};
use crate::record::{Reader, put_bytes, put_number};
use crate::wal::{segment_index, segment_name};

const HEAD_TAG: &[u8; 8] = b"oxi-ckp1";
pub(crate) const TEMPORARY: &str = "checkpoint.tmp";
const KEYS: u8 = 1;
const END: u8 = 2;
/// Keys visited under the lock in one go.
const PIECE: usize = 512;
/// No key is added to a frame that has so many bytes.
const FRAME_BYTES: usize = 1 << 20;

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

/// The state at one revision as frames, a piece at a time.
pub(crate) struct Encoder {
    published: Arc<Published>,
    revision: Revision,
    salt: u32,
    next: Option<bytes::Bytes>,
    total: u64,
    begun: bool,
    ended: bool,
    /// Keeps the revision readable.
    _pin: Pin,
}

impl Encoder {
    pub(crate) fn new(published: Arc<Published>, pin: Pin, salt: u32) -> Encoder {
        Encoder {
            published,
            revision: pin.revision(),
            salt,
            next: Some(bytes::Bytes::new()),
            total: 0,
            begun: false,
            ended: false,
            _pin: pin,
        }
    }

    /// The next bytes of the file, at least so many unless it is the rest; `None` after the end.
    /// `Interrupted` when the store was closed meanwhile.
    pub(crate) fn piece(&mut self, at_least: usize) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            write_head(&mut out, self.salt, self.revision);
        }
        while let Some(from) = self.next.take() {
            if self.published.is_closed() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let (found, rest) =
                self.published
                    .read()
                    .history
                    .versions_at(&from, self.revision, PIECE);
            self.next = rest;
            self.total += found.len() as u64;
            write_versions(&mut out, self.salt, &found);
            if out.len() >= at_least && self.next.is_some() {
                return Ok(Some(out));
            }
        }
        write_end(&mut out, self.salt, self.total);
        self.ended = true;
        Ok(Some(out))
    }
}

pub(crate) fn write_head(out: &mut Vec<u8>, salt: u32, revision: Revision) {
    frame::write(out, 0, |out| {
        out.extend_from_slice(HEAD_TAG);
        out.extend_from_slice(&salt.to_le_bytes());
        put_number(out, revision);
    });
}

pub(crate) fn write_versions(out: &mut Vec<u8>, salt: u32, found: &[(bytes::Bytes, Version)]) {
    let mut rest = found;
    while !rest.is_empty() {
        // Large values: a frame holds as many as make about a chunk.
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|(key, version)| {
                let fits = bytes < FRAME_BYTES;
                bytes += key.len() + version.value.len();
                fits
            })
            .count();
        let (now, later) = rest.split_at(count);
        rest = later;
        frame::write(out, salt, |out| {
            out.push(KEYS);
            now.iter()
                .for_each(|(key, version)| put_version(out, key, version));
        });
    }
}

pub(crate) fn write_end(out: &mut Vec<u8>, salt: u32, total: u64) {
    frame::write(out, salt, |out| {
        out.push(END);
        put_number(out, total);
    });
}

/// A checkpoint that is being written, a step at a time, beside the running store.
pub(crate) struct Job {
    disk: Arc<dyn Disk>,
    revision: Revision,
    chunk_bytes: usize,
    encoder: Encoder,
    file: Option<Box<dyn File>>,
    /// Segments of the log that go once the checkpoint has its name.
    segments: Vec<u64>,
    /// Files that are still to be removed.
    left: Option<Vec<String>>,
    removed: Vec<u64>,
}

/// What became of a checkpoint.
pub(crate) struct Done {
    pub(crate) revision: Revision,
    /// `Interrupted` when the store was closed meanwhile.
    pub(crate) result: io::Result<()>,
    /// The segments of the log that are gone.
    pub(crate) removed: Vec<u64>,
}

impl Job {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        encoder: Encoder,
        chunk_bytes: usize,
        segments: Vec<u64>,
    ) -> Job {
        Job {
            disk,
            revision: encoder.revision,
            chunk_bytes,
            encoder,
            file: None,
            segments,
            left: None,
            removed: Vec::new(),
        }
    }

    /// Works to the end; `between` is called after each step.
    pub(crate) fn run(mut self, mut between: impl FnMut()) -> Done {
        loop {
            match self.step() {
                Ok(true) => between(),
                Ok(false) => return self.done(Ok(())),
                Err(error) => return self.done(Err(error)),
            }
        }
    }

    pub(crate) fn done(self, result: io::Result<()>) -> Done {
        if result.is_err() {
            // Whatever is wrong, the next attempt begins the file anew.
            let _ = self.disk.remove(TEMPORARY);
        }
        Done {
            revision: self.revision,
            result,
            removed: self.removed,
        }
    }

    /// One step: a chunk written and synced, or a file removed. False when nothing is left.
    ///
    /// Each chunk is synced by itself: the log's own syncs then never wait for more than a chunk.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        if let Some(left) = &mut self.left {
            return match left.pop() {
                Some(name) => {
                    self.remove(&name);
                    Ok(true)
                }
                None => Ok(false),
            };
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.disk.create(TEMPORARY)?),
        };
        if let Some(piece) = self.encoder.piece(self.chunk_bytes)? {
            file.append(&piece)?;
            file.sync()?;
            return Ok(true);
        }
        self.disk
            .rename(TEMPORARY, &checkpoint_name(self.revision))?;
        self.disk.sync_names()?;
        let mut left: Vec<String> = self
            .segments
            .iter()
            .rev()
            .map(|i| segment_name(*i))
            .collect();
        let old = checkpoint_revisions(&*self.disk)?;
        let old = old.into_iter().filter(|old| *old < self.revision);
        left.extend(old.map(checkpoint_name));
        self.left = Some(left);
        Ok(true)
    }

    /// A file that cannot be removed is tried again after the next checkpoint.
    fn remove(&mut self, name: &str) {
        match self.disk.remove(name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("removing {name} from the data directory: {error}");
                return;
            }
        }
        self.removed.extend(segment_index(name));
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
    let mut decoder = Decoder::new(disk.open_read(name)?)?;
    if decoder.revision != history.revision() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = Vec::new().into_iter();
    history.load(std::iter::from_fn(|| {
        loop {
            if let Some(entry) = frame.next() {
                return Some(Ok(entry));
            }
            *offset = decoder.offset;
            match decoder.next() {
                Ok(found) => frame = found?.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }))
}

/// Reads what an [`Encoder`] wrote. `InvalidData` or `UnexpectedEof` when it is not sound.
pub(crate) struct Decoder<R> {
    file: BufReader<R>,
    salt: u32,
    pub(crate) revision: Revision,
    total: u64,
    offset: u64,
    payload: Vec<u8>,
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(file: R) -> io::Result<Decoder<R>> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let mut file = BufReader::with_capacity(256 << 10, file);
        let mut payload = Vec::new();
        frame::read(&mut file, 0, &mut payload)?;
        let (salt, rest) = payload
            .strip_prefix(HEAD_TAG)
            .and_then(|rest| rest.split_first_chunk::<4>())
            .ok_or_else(damaged)?;
        Ok(Decoder {
            salt: u32::from_le_bytes(*salt),
            revision: Reader(rest).number().ok_or_else(damaged)?,
            file,
            total: 0,
            offset: (frame::HEAD + payload.len()) as u64,
            payload,
        })
    }

    /// The next keys; `None` after the last, when all of them were there.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<(bytes::Bytes, Version)>>> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        frame::read(&mut self.file, self.salt, &mut self.payload)?;
        self.offset += (frame::HEAD + self.payload.len()) as u64;
        let mut reader = Reader(&self.payload);
        match reader.byte() {
            Some(KEYS) => {
                let mut found = Vec::new();
                while !reader.0.is_empty() {
                    found.push(read_version(&mut reader).ok_or_else(damaged)?);
                }
                self.total += found.len() as u64;
                Ok(Some(found))
            }
            Some(END) if reader.number() == Some(self.total) => Ok(None),
            _ => Err(damaged()),
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
