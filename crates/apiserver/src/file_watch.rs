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

async fn watch(path: &Path, mut before: String, changed: impl Fn(&str)) -> io::Result<()> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = Receiver::from_owned_fd_unchecked(events)?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
    inotify::add_watch(events.as_fd(), directory.unwrap_or(Path::new(".")), what)?;
    let mut buffer = [0; 4096];
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
        loop {
            events.readable().await?;
            match events.try_read(&mut buffer) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
