//! Configuration files that may change while the server runs. Their directories are watched: editors and volumes put a new
//! file in the place of the old one.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

/// Calls `changed` with the text of a file whenever it is another than before, until `shutdown`.
pub fn follow(
    path: PathBuf,
    before: String,
    shutdown: CancellationToken,
    changed: impl Fn(&str) + Send + 'static,
) {
    tokio::spawn(async move {
        let watching = watch(&path, before, changed);
        tokio::select! {
            result = watching => if let Err(error) = result {
                tracing::error!(path = %path.display(), %error, "a file is not watched any more");
            },
            () = shutdown.cancelled() => {}
        }
    });
}

/// Calls `changed` whenever something in a directory may be another than before, until `shutdown`.
pub(crate) fn follow_directory(
    path: PathBuf,
    shutdown: CancellationToken,
    changed: impl Fn() + Send + 'static,
) {
    tokio::spawn(async move {
        let watching = watch_directory(&path, changed);
        tokio::select! {
            result = watching => if let Err(error) = result {
                tracing::error!(path = %path.display(), %error, "a directory is not watched any more");
            },
            () = shutdown.cancelled() => {}
        }
    });
}

async fn watch_directory(path: &Path, changed: impl Fn()) -> io::Result<()> {
    let mut events = Events::of(
        path,
        WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE,
    )?;
    loop {
        // Whatever happened before the watch was there is seen by this first look.
        changed();
        events.next().await?;
    }
}

/// What happens in a directory.
struct Events {
    queue: Receiver,
    buffer: [u8; 4096],
}

impl Events {
    fn of(directory: &Path, what: WatchFlags) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let queue = Receiver::from_owned_fd_unchecked(events)?;
        inotify::add_watch(queue.as_fd(), directory, what)?;
        Ok(Self {
            queue,
            buffer: [0; 4096],
        })
    }

    /// Waits for something.
    async fn next(&mut self) -> io::Result<()> {
        loop {
            self.queue.readable().await?;
            match self.queue.try_read(&mut self.buffer) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn watch(path: &Path, mut before: String, changed: impl Fn(&str)) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
    let mut events = Events::of(directory.unwrap_or(Path::new(".")), what)?;
    loop {
        // Whatever happened before the watch was there is seen by this first look.
        match tokio::fs::read_to_string(path).await {
            Ok(text) if text != before => {
                changed(&text);
                before = text;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a file cannot be read"),
        }
        events.next().await?;
    }
}
