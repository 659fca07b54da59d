//! Taking a store elsewhere: backups of a running store, and restoring them.
//!
//! A backup is one file, the state at one revision in the format of a checkpoint, with a checksum
//! on every part. Restoring makes a whole new data directory beside the old one and then gives it
//! its name, so that nothing is ever mixed and a crash leaves one or the other.
//!
//! A restored store begins at a revision far beyond the backup's. Watchers and caches that know
//! revisions of the lost time are told that their history is gone and read anew, where otherwise
//! they would take other data for what they know.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::checkpoint::{self, Decoder, Encoder, checkpoint_name};
use crate::disk::{Disk, RealDisk, TakeError};
use crate::embedded::{OpenError, Options};
use crate::history::Version;
use crate::published::{Pin, Published};
use crate::recovery::{self, salt};
use crate::{KeyValue, LeaseId, Revision};

/// How far beyond the backup a restored store begins.
pub const LEAP: Revision = 1_000_000_000;

const PIECE: usize = 1 << 20;
/// Keys imported in one go.
const AT_ONCE: usize = 512;

pub(crate) fn write(
    published: Arc<Published>,
    pin: Pin,
    out: &mut dyn Write,
) -> io::Result<Revision> {
    let revision = pin.revision();
    let mut encoder = Encoder::new(published, pin, salt());
    while let Some(piece) = encoder.piece(PIECE)? {
        out.write_all(&piece)?;
    }
    out.flush()?;
    Ok(revision)
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The revision of the state.
    pub revision: Revision,
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
}

fn unsound(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => OpenError::Backup {
            what: "it is no backup, or cut short, or damaged".into(),
        },
        _ => OpenError::io("read the backup")(error),
    }
}

/// Reads a whole backup, hands each key to `take`, and says what it holds. What was handed over
/// counts only when this returns without an error.
pub fn read(
    backup: &mut dyn Read,
    mut take: impl FnMut(KeyValue) -> io::Result<()>,
) -> Result<Summary, OpenError> {
    let mut decoder = Decoder::new(backup).map_err(unsound)?;
    let mut summary = Summary {
        revision: decoder.revision,
        keys: 0,
        bytes: 0,
    };
    while let Some(found) = decoder.next().map_err(unsound)? {
        for (key, version) in found {
            summary.keys += 1;
            summary.bytes += (key.len() + version.value.len()) as u64;
            take(KeyValue {
                key,
                value: version.value,
                create_revision: version.create_revision,
                mod_revision: version.mod_revision,
                version: version.version,
                lease: (version.lease > 0).then_some(LeaseId(version.lease)),
            })
            .map_err(OpenError::io("use the backup"))?;
        }
    }
    Ok(summary)
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup held.
    pub backup: Summary,
    /// The revision at which the store begins.
    pub revision: Revision,
    /// Where the data went that was there before.
    pub replaced: Option<PathBuf>,
}

/// Restores a backup to a data directory that no process uses. One that holds a store is put aside
/// under another name when `replace` says so, and refused otherwise.
pub fn restore(backup: &mut dyn Read, dir: &Path, replace: bool) -> Result<Restored, OpenError> {
    let name = dir.file_name().ok_or_else(|| OpenError::Io {
        action: "restore to this directory",
        source: io::ErrorKind::InvalidInput.into(),
    })?;
    let beside = |what: String| {
        let mut other = name.to_owned();
        other.push(what);
        dir.with_file_name(other)
    };
    let in_the_way = !is_empty(dir).map_err(OpenError::io("look into the data directory"))?;
    if in_the_way && !replace {
        return Err(OpenError::NotEmpty {
            dir: dir.to_owned(),
        });
    }
    // As long as this is held no process opens the old data.
    let _old = in_the_way.then(|| take(dir)).transpose()?;
    let new = beside(".restoring".into());
    if new.exists() {
        fs::remove_dir_all(&new).map_err(OpenError::io("remove an unfinished restore"))?;
    }
    let built = build(backup, &new);
    if built.is_err() {
        // The first error is the one to be told.
        let _ = fs::remove_dir_all(&new);
    }
    let (summary, revision) = built?;
    let replaced = in_the_way.then(|| unused(beside));
    let swap = || {
        match &replaced {
            Some(aside) => fs::rename(dir, aside)?,
            None if dir.exists() => fs::remove_dir_all(dir)?,
            None => {}
        }
        if let Err(error) = fs::rename(&new, dir) {
            // The old data keep their name when the new ones cannot have it.
            if let Some(aside) = &replaced {
                fs::rename(aside, dir)?;
            }
            return Err(error);
        }
        let parent = dir.parent().filter(|parent| *parent != Path::new(""));
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    swap().map_err(OpenError::io("put the restored directory in place"))?;
    Ok(Restored {
        backup: summary,
        revision,
        replaced,
    })
}

/// The name under which data are put aside: the time, and a number where another restore in the
/// same second has taken that.
fn unused(beside: impl Fn(String) -> PathBuf) -> PathBuf {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs());
    let first = beside(format!(".replaced-{seconds}"));
    std::iter::once(first)
        .chain((2u64..).map(|n| beside(format!(".replaced-{seconds}-{n}"))))
        .find(|name| !name.exists())
        .expect("numbers do not end")
}

/// Whether there is nothing in the directory that a store put there.
fn is_empty(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_name() != "LOCK" {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn take(dir: &Path) -> Result<RealDisk, OpenError> {
    RealDisk::take(dir).map_err(|error| match error {
        TakeError::Locked(holder) => OpenError::Locked {
            dir: dir.to_owned(),
            holder,
        },
        TakeError::Io(source) => OpenError::io("take the data directory")(source),
    })
}

fn build(backup: &mut dyn Read, dir: &Path) -> Result<(Summary, Revision), OpenError> {
    let mut decoder = Decoder::new(backup).map_err(unsound)?;
    let (from, revision) = (decoder.revision, decoder.revision + LEAP);
    let summary = build_from(dir, revision, || decoder.next().map_err(unsound))?;
    let summary = Summary {
        revision: from,
        ..summary
    };
    Ok((summary, revision))
}

/// Makes a data directory, which does not exist or is empty, of keys that come in order, with the
/// revisions that they had. Leases other than named ones are taken as they are.
pub fn import(
    dir: &Path,
    revision: Revision,
    kvs: impl IntoIterator<Item = KeyValue>,
) -> Result<Summary, OpenError> {
    if !is_empty(dir).map_err(OpenError::io("look into the data directory"))? {
        return Err(OpenError::NotEmpty {
            dir: dir.to_owned(),
        });
    }
    let mut kvs = kvs
        .into_iter()
        .map(|kv| (kv.key.clone(), Version::from(kv)));
    build_from(dir, revision, || {
        let some: Vec<_> = kvs.by_ref().take(AT_ONCE).collect();
        Ok((!some.is_empty()).then_some(some))
    })
}

fn build_from(
    dir: &Path,
    revision: Revision,
    mut next: impl FnMut() -> Result<Option<Vec<(bytes::Bytes, Version)>>, OpenError>,
) -> Result<Summary, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(take(dir)?);
    let write = OpenError::io("write the restored data");
    let mut summary = Summary {
        revision,
        keys: 0,
        bytes: 0,
    };
    let salt = salt();
    let mut out = Vec::new();
    checkpoint::write_head(&mut out, salt, revision);
    let mut file = disk.create(checkpoint::TEMPORARY).map_err(&write)?;
    while let Some(found) = next()? {
        summary.keys += found.len() as u64;
        let bytes = found
            .iter()
            .map(|(key, version)| key.len() + version.value.len());
        summary.bytes += bytes.sum::<usize>() as u64;
        checkpoint::write_versions(&mut out, salt, &found);
        if out.len() >= PIECE {
            file.append(&out).map_err(&write)?;
            out.clear();
        }
    }
    checkpoint::write_end(&mut out, salt, summary.keys);
    let mut finish = || {
        file.append(&out)?;
        file.sync()?;
        disk.rename(checkpoint::TEMPORARY, &checkpoint_name(revision))?;
        recovery::begin(&disk, Options::default().segment_bytes, revision).map(drop)
    };
    finish().map_err(&write)?;
    Ok(summary)
}
