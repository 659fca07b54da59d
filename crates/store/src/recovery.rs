//! How a data directory begins, and what it holds when it is opened again: the last checkpoint and the log after it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;

use crate::disk::Disk;
use crate::embedded::OpenError;
use crate::format::{self, Format};
use crate::history::{Commit, History, event};
use crate::record::{BatchRecord, Change, Entry};
use crate::wal::{Log, Shape, segment_indexes, segment_name};
use crate::{Batch, Revision, checkpoint};

/// A number that no other file has, as good as surely.
pub(crate) fn salt() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// Begins a store. FORMAT comes last: without it nothing was ever acknowledged.
pub(crate) fn initialize(disk: &Arc<dyn Disk>, shape: Shape) -> Result<Log, OpenError> {
    let indexes = segment_indexes(&**disk).map_err(OpenError::io("list the data directory"))?;
    let checkpoints = checkpoint::checkpoint_revisions(&**disk)
        .map_err(OpenError::io("list the data directory"))?;
    let mut begun = Vec::new();
    if indexes == [1] {
        disk.open_read(&segment_name(1))
            .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, 100), &mut begun))
            .map_err(OpenError::io("read the log"))?;
    }
    let holds_data = begun.len() == 100 || indexes.iter().any(|&index| index > 1);
    if holds_data || !checkpoints.is_empty() {
        return Err(OpenError::Format {
            file: disk.describe(format::FILE),
            found: String::new(),
        });
    }
    begin_in(disk, shape, 1).map_err(OpenError::io("prepare the data directory"))
}

/// Begins the log at a revision and says what the directory is.
pub(crate) fn begin(
    disk: &Arc<dyn Disk>,
    segment_bytes: u64,
    revision: Revision,
) -> io::Result<Log> {
    let shape = Shape {
        segment_bytes,
        declared: Format::CURRENT,
        writes: Format::CURRENT,
    };
    begin_in(disk, shape, revision)
}

fn begin_in(disk: &Arc<dyn Disk>, shape: Shape, revision: Revision) -> io::Result<Log> {
    let log = Log::create(disk.clone(), shape, salt(), revision)?;
    format::declare(&**disk, shape.declared)?;
    Ok(log)
}

/// Removes what a crash left half-written under a temporary name.
fn remove_unfinished(disk: &dyn Disk) -> Result<(), OpenError> {
    let names = disk
        .list()
        .map_err(OpenError::io("list the data directory"))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name)
            .map_err(OpenError::io("remove an unfinished file"))?;
    }
    Ok(())
}

/// The state that is on the disk, and the log to go on with.
pub(crate) fn recover(disk: &Arc<dyn Disk>, shape: Shape) -> Result<(History, Log), OpenError> {
    remove_unfinished(&**disk)?;
    let mut history = checkpoint::load(&**disk)?;
    let start = history.revision();
    let log = Log::recover(disk.clone(), shape, start, &mut |batch| {
        replay(&mut history, start, batch)
    })?;
    Ok((history, log))
}

/// Applies a batch of the log; what the checkpoint has already is passed over.
fn replay(history: &mut History, start: Revision, batch: BatchRecord) -> Result<Revision, String> {
    let mut reached = history.revision();
    for entry in batch.entries {
        match entry {
            Entry::Commit(revision, _) if revision <= start => reached = revision,
            Entry::Commit(revision, changes) => {
                let expected = history.revision() + 1;
                if revision != expected {
                    return Err(format!(
                        "revision {revision} found where {expected} should be"
                    ));
                }
                history.apply(replayed(history, revision, changes, batch.time_ms));
                reached = revision;
            }
            Entry::Compact(revision) => {
                history.compact(revision);
                history.sweep(Revision::MAX, usize::MAX);
            }
        }
    }
    Ok(reached)
}

fn replayed(history: &History, revision: Revision, changes: Vec<Change>, time_ms: u64) -> Commit {
    let events = changes.into_iter().map(|change| {
        let (key, put) = match change {
            Change::Put {
                key,
                value,
                deadline,
            } => (key, Some((value, deadline))),
            Change::Delete { key } => (key, None),
        };
        let previous = history.current(&key);
        event(revision, key, put, previous)
    });
    Commit {
        time_ms,
        batch: Batch {
            revision,
            events: events.collect(),
        },
    }
}
