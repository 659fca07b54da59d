//! A second reader of the embedded store's files, which verifies a data directory.
//!
//! What it is: the format written down, and code that shares none with the engine, so that a
//! mistake would have to be made twice. It only reads. What it is not: it serves nothing.
//!
//! Where to start: the format below, then [`verify`].
//!
//! # The format
//!
//! A directory holds `FORMAT` (the text `oxikube-store 2`, or `oxikube-store 1` as long as only an
//! earlier release wrote to it, and a line feed), `LOCK`, at most a few
//! `checkpoint-<revision, 20 digits>.db`, one or more `wal-<index, 16 hex digits>.log`, perhaps
//! `aside`, and unfinished files `*.tmp` that do not count.
//!
//! Numbers are little endian in frames' heads and LEB128 elsewhere; *bytes* are their number and
//! then they themselves. A *frame* is `oxfr`, the payload's length (4), a CRC-32 (4) over a salt
//! (4), the length (4) and the payload, then the payload.
//!
//! A checkpoint is a frame with salt 0 (`oxi-ckp1`, the file's salt (4), the revision), frames of
//! keys in order (a byte 1; then key, value, creation revision, revision, version, lease for each)
//! and a last frame (a byte 2; how many keys there were).
//!
//! A segment of the log is a frame with salt 0 (`oxi-wal2`, the file's salt (4), the index, the
//! number of its first batch, the revision before it), then a record a batch: its number (8), the
//! time in milliseconds since 1970, and entries. An entry is a byte 1, a revision, a number of
//! changes (each a byte 1, key, value, lease; or a byte 2, key); or a byte 2 and the revision
//! before which history was given up.
//!
//! A *record* is `oxrc`, the payload's length (4), a CRC-32 (4) over the file's salt (4) and the
//! payload, a CRC-32 (4) over the salt (4), the place of the record in the file (8) and the twelve
//! bytes before it, then the payload. Before every byte of a record that would come to stand at a multiple of
//! 512 stands a byte `a5` that does not count. So no sector that was written is all zeros.
//!
//! A segment of format 1 begins with `oxi-wal1`, and its batches are frames with the file's salt,
//! without such bytes. It may stand in a directory of format 2, before all segments of that format.
//!
//! `aside` is one frame with salt 0 (`oxi-side`, then what another API keeps beside the store).
//!
//! The state is the newest checkpoint, and on top of it what the log says after it. The log's last
//! batch may be unfinished: then the file is too short for it, or a sector of it is all zeros. (Of format 1 this reader
//! takes any broken last batch for unfinished.)

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

mod frames;
mod log;
mod records;

use frames::{Frames, Words};
use log::{Batches, Log};

/// Where the files are.
pub trait Files {
    /// Their names.
    fn names(&self) -> io::Result<Vec<String>>;
    /// The whole of one.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
}

/// A directory of this machine.
pub struct Directory(pub PathBuf);

impl Directory {
    /// The directory at a path.
    pub fn new(path: &Path) -> Directory {
        Directory(path.to_owned())
    }
}

impl Files for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.0.join(name))
    }
}

/// A key's present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its value.
    pub value: Vec<u8>,
    /// The revision at which it came into being.
    pub created: u64,
    /// The revision of its last write.
    pub written: u64,
    /// How often it was written since.
    pub version: u64,
    /// What its time to live hangs on; 0 is for ever.
    pub lease: u64,
}

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The newest format that any of its files has.
    pub format: u32,
    /// The current revision.
    pub revision: u64,
    /// The oldest state that the engine would serve.
    pub compacted: u64,
    /// Every key.
    pub keys: BTreeMap<Vec<u8>, Entry>,
    /// The revision of the checkpoint that was used.
    pub checkpoint: Option<u64>,
    /// Its bytes.
    pub checkpoint_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Batches in the log.
    pub batches: u64,
    /// Bytes at the end of the log of a write that was never finished.
    pub unfinished: u64,
    /// What is wrong with checkpoints that are not needed.
    pub superfluous_damage: Vec<String>,
}

/// Why a directory is not sound.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It holds no store that this reader knows.
    #[error("no store of a known format: {0}")]
    Format(String),
    /// Something in it is wrong.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// It cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn damaged(file: &str, offset: usize, what: impl Into<String>) -> Problem {
    Problem::Damaged {
        file: file.to_owned(),
        offset,
        what: what.into(),
    }
}

/// Reads everything and says what is there, or what is wrong with it.
pub fn verify(files: &dyn Files) -> Result<Contents, Problem> {
    let read = |name: &str| {
        files.read(name).map_err(|source| Problem::Read {
            file: name.to_owned(),
            source,
        })
    };
    let mut names = files.names().map_err(|source| Problem::Read {
        file: "the directory".into(),
        source,
    })?;
    names.sort();
    if !names.iter().any(|name| name == "FORMAT") {
        return Err(Problem::Format("the file FORMAT is missing".into()));
    }
    let format = match &read("FORMAT")?[..] {
        b"oxikube-store 1\n" => 1,
        b"oxikube-store 2\n" => 2,
        other => {
            let text = String::from_utf8_lossy(other).trim().to_owned();
            return Err(Problem::Format(format!("FORMAT says {text:?}")));
        }
    };
    if names.iter().any(|name| name == "aside") {
        aside(&read("aside")?)?;
    }
    let mut contents = Contents {
        format,
        revision: 1,
        ..Contents::default()
    };
    let checkpoints = names.iter().filter_map(|name| {
        let digits = name.strip_prefix("checkpoint-")?.strip_suffix(".db")?;
        Some((digits.parse::<u64>().ok()?, name))
    });
    let mut checkpoints: Vec<(u64, &String)> = checkpoints.collect();
    checkpoints.sort();
    let mut problem = None;
    for (revision, name) in checkpoints.into_iter().rev() {
        let bytes = read(name)?;
        match checkpoint(name, &bytes, revision) {
            // The newest sound one counts; older ones were on their way out.
            Ok(keys) if contents.checkpoint.is_none() => {
                contents.checkpoint_bytes = bytes.len() as u64;
                contents.keys = keys;
                contents.checkpoint = Some(revision);
                contents.revision = revision;
                contents.compacted = revision;
            }
            Ok(_) => {}
            Err(error) => {
                contents.superfluous_damage.push(error.to_string());
                problem.get_or_insert(error);
            }
        }
    }
    if let Some(problem) = problem.filter(|_| contents.checkpoint.is_none()) {
        return Err(problem);
    }
    let segments: Vec<(u64, &String)> = names
        .iter()
        .filter_map(|name| {
            let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
            Some((u64::from_str_radix(digits, 16).ok()?, name))
        })
        .collect();
    // What lies before a gap was on its way out.
    let gap = segments
        .windows(2)
        .rposition(|two| two[0].0 + 1 != two[1].0);
    let segments = &segments[gap.map_or(0, |at| at + 1)..];
    if segments.is_empty() {
        return Err(damaged("wal-*.log", 0, "there is no log"));
    }
    let mut log = Log::after(contents);
    for (at, (index, name)) in segments.iter().enumerate() {
        log.segment(name, *index, &read(name)?, at + 1 == segments.len())?;
    }
    Ok(log.contents())
}

fn aside(bytes: &[u8]) -> Result<(), Problem> {
    let mut frames = Frames::from(bytes, 0, 0);
    let is_sound = frames
        .next_frame()
        .is_some_and(|payload| payload.starts_with(b"oxi-side"));
    match is_sound && frames.at() == bytes.len() {
        true => Ok(()),
        false => Err(damaged("aside", 0, "a checksum does not fit")),
    }
}

fn checkpoint(
    name: &str,
    bytes: &[u8],
    revision: u64,
) -> Result<BTreeMap<Vec<u8>, Entry>, Problem> {
    let mut frames = Frames::from(bytes, 0, 0);
    let wrong = |at: usize| damaged(name, at, "the checkpoint is not sound");
    let head = frames.next_frame().ok_or_else(|| wrong(0))?;
    let salt = head
        .strip_prefix(b"oxi-ckp1")
        .and_then(|rest| rest.first_chunk::<4>())
        .ok_or_else(|| wrong(0))?;
    if Words(&head[12..]).number() != Some(revision) {
        return Err(wrong(0));
    }
    frames.salted(u32::from_le_bytes(*salt));
    let mut keys = BTreeMap::new();
    loop {
        let at = frames.at();
        let payload = frames.next_frame().ok_or_else(|| wrong(at))?;
        let mut words = Words(payload);
        match words.byte() {
            Some(1) => {
                while !words.is_empty() {
                    let (key, entry) = entry(&mut words).ok_or_else(|| wrong(at))?;
                    let last = keys.last_key_value().map(|(last, _): (&Vec<u8>, _)| last);
                    if entry.written > revision || last.is_some_and(|last| *last >= key) {
                        return Err(wrong(at));
                    }
                    keys.insert(key, entry);
                }
            }
            Some(2) if words.number() == Some(keys.len() as u64) => break,
            _ => return Err(wrong(at)),
        }
    }
    match frames.at() == bytes.len() {
        true => Ok(keys),
        false => Err(wrong(frames.at())),
    }
}

fn entry(words: &mut Words<'_>) -> Option<(Vec<u8>, Entry)> {
    let (key, value) = (words.bytes()?.to_vec(), words.bytes()?.to_vec());
    let entry = Entry {
        value,
        created: words.number()?,
        written: words.number()?,
        version: words.number()?,
        lease: words.number()?,
    };
    Some((key, entry))
}

#[cfg(test)]
mod tests;
