//! Logs do not grow without end: a file that has become too long is put aside and a new one begun.
//!
//! The kernel says which logs are written to; a quiet node never wakes up for this.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1::ReopenContainerLogRequest;
use parking_lot::Mutex;

use super::inotify::{Inotify, Touched};
use crate::context::Context;

/// The length from which a log is put aside.
pub(crate) const MAX_BYTES: u64 = 10 << 20;
/// How many files of a log there are, the one being written included.
pub(crate) const MAX_FILES: usize = 5;
/// How long what is written is not looked at after a look.
const PAUSE: Duration = Duration::from_secs(10);

/// The directories whose logs are looked after.
pub(crate) struct Rotation {
    inotify: Option<Inotify>,
    dirs: Mutex<HashMap<i32, PathBuf>>,
}

impl Rotation {
    pub(crate) fn new() -> Rotation {
        let inotify = Inotify::new();
        if let Err(error) = &inotify {
            tracing::warn!(%error, "logs are not rotated");
        }
        Rotation {
            inotify: inotify.ok(),
            dirs: Mutex::default(),
        }
    }

    /// Looks after the logs of a container from now on.
    pub(crate) fn follow(&self, dir: &Path) {
        let Some(inotify) = &self.inotify else { return };
        match inotify.add(dir) {
            Ok(watch) => {
                self.dirs.lock().insert(watch, dir.to_owned());
            }
            Err(error) => tracing::debug!(dir = %dir.display(), %error, "log not watched"),
        }
    }

    async fn touched(&self) -> Option<Vec<PathBuf>> {
        let touched = self.inotify.as_ref()?.changed().await.ok()?;
        let mut dirs = self.dirs.lock();
        let mut files = Vec::new();
        for Touched { watch, name } in touched {
            match (name, dirs.get(&watch)) {
                (Some(name), Some(dir)) if name.ends_with(".log") => files.push(dir.join(name)),
                (None, _) => {
                    dirs.remove(&watch);
                }
                _ => {}
            }
        }
        Some(files)
    }
}

/// Looks after logs for ever.
pub(crate) async fn run(context: Arc<Context>) {
    let pods = std::fs::read_dir(&context.node.log_root);
    for pod in pods.into_iter().flatten().flatten() {
        let containers = std::fs::read_dir(pod.path());
        for container in containers.into_iter().flatten().flatten() {
            context.rotation.follow(&container.path());
        }
    }
    while let Some(files) = context.rotation.touched().await {
        for file in files {
            let length = std::fs::metadata(&file).map_or(0, |m| m.len());
            if length > MAX_BYTES {
                rotate(&context, &file).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn rotate(context: &Context, file: &Path) {
    let Some(id) = container_of(context, file) else {
        return;
    };
    if let Err(error) = put_aside(file) {
        tracing::warn!(file = %file.display(), %error, "cannot put a log aside");
        return;
    }
    let request = ReopenContainerLogRequest { container_id: id };
    if let Err(error) = context.runtime.reopen_container_log(request).await {
        tracing::warn!(file = %file.display(), %error, "cannot begin a new log");
    }
}

/// The running container that writes to a file.
fn container_of(context: &Context, file: &Path) -> Option<String> {
    let pods = context.pods.lock();
    pods.values().find_map(|mailbox| {
        let pod = mailbox.pod();
        let directory = pod_lifecycle::config::log_directory(&context.node, &pod);
        let relative = file.strip_prefix(&directory).ok()?;
        let known = mailbox.known();
        let container = known.containers.iter().find(|c| {
            let path = pod_lifecycle::config::log_path(&c.name, c.restart_count);
            relative == Path::new(&path)
        })?;
        Some(container.id.clone())
    })
}

/// Renames a log after the time, and removes the oldest of those put aside before.
pub(super) fn put_aside(file: &Path) -> std::io::Result<()> {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{time}"));
    std::fs::rename(file, PathBuf::from(name))?;
    let mut old = aside(file);
    old.sort();
    let extra = old.len().saturating_sub(MAX_FILES - 1);
    for file in &old[..extra] {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

fn aside(file: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else {
        return Vec::new();
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect()
}

/// Removes a log and all that was put aside of it.
pub(crate) fn remove(file: &Path) {
    for path in aside(file).into_iter().chain([file.to_owned()]) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::trace!(path = %path.display(), %error, "log not removed");
        }
    }
}
