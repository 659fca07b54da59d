//! The few things that the engine asks of a disk, and the real one.
//!
//! A seam for the simulated disk ([`crate::sim_disk`]): names are flat, files only grow at their
//! end or are cut, and nothing is durable before [`File::sync`] (bytes) and [`Disk::sync_names`]
//! (which names there are) have returned.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// An empty file to write, in place of one that has the name already.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// An existing file, to be continued at its end.
    fn open_append(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// An existing file, to be read from its beginning.
    fn open_read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Gives a file another name, in place of one that has it already.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals so far durable.
    fn sync_names(&self) -> io::Result<()>;
    /// The name as a person knows it, for messages.
    fn describe(&self, name: &str) -> String;
}

/// A file that is being written.
pub trait File: Send {
    /// Writes at the end. After an error an unknown part of the bytes is there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written so far durable. After an error nobody knows what is, and asking
    /// again tells nothing about the bytes of the first time.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Whether the error says that there is no room, which passes, unlike all others.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A directory of this machine, locked for this process as long as the value lives.
pub struct RealDisk {
    dir: PathBuf,
    names: fs::File,
    _lock: fs::File,
}

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Another process (its number, when it could be read) has it.
    #[error("another process has the directory")]
    Locked(Option<u32>),
    /// Anything else.
    #[error("cannot take the directory")]
    Io(#[from] io::Error),
}

impl RealDisk {
    /// Makes the directory if need be (for its owner only) and locks it.
    pub fn take(dir: &Path) -> Result<RealDisk, TakeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let lock_path = dir.join("LOCK");
        let mut lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder)?;
                return Err(TakeError::Locked(holder.trim().parse().ok()));
            }
            Err(error) => return Err(TakeError::Io(error.into())),
        }
        lock.set_len(0)?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(RealDisk {
            dir: dir.to_owned(),
            names: fs::File::open(dir)?,
            _lock: lock,
        })
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(name))?;
        file.set_len(0)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .append(true)
            .open(self.dir.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(self.dir.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.names.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
