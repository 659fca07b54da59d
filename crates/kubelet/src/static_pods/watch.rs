//! Being told when the files change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;

use crate::logs::inotify::Inotify;

/// The pause after the directory could not be watched.
const PAUSE: Duration = Duration::from_secs(5);

/// Completes when something in the directory may have changed.
pub(crate) struct Watch {
    dir: PathBuf,
    inotify: Option<Inotify>,
}

impl Watch {
    /// Watches a directory, which is made when it is missing, or the directory of a file.
    pub(crate) fn new(path: &Path) -> Self {
        let dir = match path.parent() {
            Some(parent) if path.is_file() => parent,
            _ => path,
        };
        let mut own = Self {
            dir: dir.to_owned(),
            inotify: None,
        };
        own.watch();
        own
    }

    fn watch(&mut self) {
        let what = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let watched = std::fs::create_dir_all(&self.dir).and_then(|()| {
            let inotify = Inotify::new()?;
            inotify.add_for(&self.dir, what)?;
            Ok(inotify)
        });
        match watched {
            Ok(inotify) => self.inotify = Some(inotify),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "static pods cannot be watched");
            }
        }
    }

    /// See the type.
    pub(crate) async fn changed(&mut self) {
        match &self.inotify {
            Some(inotify) => match inotify.changed().await {
                Ok(touched) if touched.iter().all(|t| t.name.is_some()) => {}
                // Something befell the directory itself: it is watched anew before it is read again.
                _ => {
                    self.inotify = None;
                    self.watch();
                }
            },
            None => {
                tokio::time::sleep(PAUSE).await;
                self.watch();
            }
        }
    }
}
