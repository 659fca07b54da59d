//! `/var/log/containers`: one link per container to its log, by a name that says whose it is. Log collectors look there.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use pod_lifecycle::pod as parts;

/// The directory of the links: beside that of the pods' logs.
fn directory(log_root: &str) -> PathBuf {
    let root = Path::new(log_root);
    root.parent().unwrap_or(root).join("containers")
}

/// Links to the log of a container. Nobody depends on it but collectors, so it may fail.
pub(crate) fn add(log_root: &str, pod: &Pod, container: &str, id: &str, log: &Path) {
    let (name, namespace) = (parts::name(pod), parts::namespace(pod));
    let link = directory(log_root).join(format!("{name}_{namespace}_{container}-{id}.log"));
    if let Err(error) = make(&link, log) {
        tracing::debug!(link = %link.display(), %error, "no link to the log");
    }
}

fn make(link: &Path, log: &Path) -> io::Result<()> {
    if let Some(dir) = link.parent() {
        std::fs::create_dir_all(dir)?;
    }
    symlink(log, link)
}

/// Removes the links that lead to `log` or into it.
pub(crate) fn remove(log_root: &str, log: &Path) {
    let entries = std::fs::read_dir(directory(log_root));
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let leads_there = std::fs::read_link(&path).is_ok_and(|target| target.starts_with(log));
        if leads_there && let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(link = %path.display(), %error, "link to a log not removed");
        }
    }
}
