//! A disk that remembers how long each thing took that was asked of it.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::disk::{Disk, File, RealDisk};

/// One thing that was asked of the disk.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) began: Instant,
    pub(super) took: Duration,
}

impl Call {
    /// Whether the log, that is a writer, waited for it.
    pub(super) fn is_of_log(&self) -> bool {
        self.what == "sync" && self.name.starts_with("wal-")
    }
}

/// What was asked, in the order of the answers.
pub(super) type Calls = Arc<Mutex<Vec<Call>>>;

pub(super) struct Traced {
    disk: RealDisk,
    calls: Calls,
}

impl Traced {
    pub(super) fn new(disk: RealDisk) -> (Traced, Calls) {
        let calls = Calls::default();
        let traced = Traced {
            disk,
            calls: calls.clone(),
        };
        (traced, calls)
    }

    fn file(&self, name: &str, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(TracedFile {
            name: name.to_owned(),
            file,
            calls: self.calls.clone(),
        })
    }
}

fn timed<T>(calls: &Calls, what: &'static str, name: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    let took = began.elapsed();
    // What is quick explains nothing.
    if took > Duration::from_millis(1) {
        let name = name.to_owned();
        calls.lock().push(Call {
            what,
            name,
            began,
            took,
        });
    }
    result
}

impl Disk for Traced {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = timed(&self.calls, "create", name, || self.disk.create(name))?;
        Ok(self.file(name, file))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.file(name, self.disk.open_append(name)?))
    }

    fn open_read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        self.disk.open_read(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        timed(&self.calls, "list", "", || self.disk.list())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        timed(&self.calls, "rename", to, || self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        timed(&self.calls, "remove", name, || self.disk.remove(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        timed(&self.calls, "sync names", "", || self.disk.sync_names())
    }

    fn describe(&self, name: &str) -> String {
        self.disk.describe(name)
    }
}

struct TracedFile {
    name: String,
    file: Box<dyn File>,
    calls: Calls,
}

impl File for TracedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        timed(&self.calls, "append", &self.name, || {
            self.file.append(bytes)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        timed(&self.calls, "sync", &self.name, || self.file.sync())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
