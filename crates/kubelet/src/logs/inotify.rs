//! Being told by the kernel when files in a directory change.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// A set of watched directories.
pub(crate) struct Inotify {
    /// Readable like a pipe, which is all that the waiting side has to know.
    events: Receiver,
}

/// Something happened to a file of a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// The number of the directory.
    pub(crate) watch: i32,
    /// The file; `None`: the directory is no longer watched.
    pub(crate) name: Option<String>,
}

impl Inotify {
    pub(crate) fn new() -> io::Result<Inotify> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Inotify {
            events: Receiver::from_owned_fd_unchecked(fd)?,
        })
    }

    /// Watches a directory; answers with its number.
    pub(crate) fn add(&self, dir: &Path) -> io::Result<i32> {
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        self.add_for(dir, what)
    }

    /// The same for these events.
    pub(crate) fn add_for(&self, dir: &Path, what: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(self.events.as_fd(), dir, what)?)
    }

    /// Waits until something happened, and takes all of it.
    pub(crate) async fn changed(&self) -> io::Result<Vec<Touched>> {
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        loop {
            match self.events.try_read(&mut buffer) {
                Ok(length) => parse(&buffer[..length], &mut all),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if !all.is_empty() => return Ok(all),
                Err(_) => self.events.readable().await?,
            }
        }
    }
}

/// Takes the kernel's records apart: watch, mask, cookie, length of the name (four bytes each), the name.
fn parse(mut bytes: &[u8], all: &mut Vec<Touched>) {
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let length = usize::try_from(u32::from_ne_bytes(word(12))).unwrap_or(usize::MAX);
        let (name, after) = rest.split_at(length.min(rest.len()));
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let touched = Touched {
            watch: i32::from_ne_bytes(word(0)),
            name: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
        };
        if !all.contains(&touched) {
            all.push(touched);
        }
        bytes = after;
    }
}
