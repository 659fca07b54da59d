//! This node's part in local volumes: their directories.
//!
//! A directory is made when a pod first uses its volume. When the object is to go and nobody else holds it, the data is
//! removed (if that is the volume's policy) and then the finalizer. The node acts on its own volumes only; the API server
//! refuses anything else. Nothing polls: one watch tells of these volumes, and a removal that fails is tried again later.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::watch::{Change, store};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::json;
use volumes::local;

use crate::context::Context;

/// Everybody may write: which user a pod runs as is not the volume's business.
const MODE: u32 = 0o777;
const RETRY_START: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where the directory of a volume is.
fn place(root: &Path, volume: &str) -> Result<PathBuf, String> {
    if !local::is_directory_name(volume) {
        return Err(format!("{volume:?} is no name for a directory"));
    }
    Ok(root.join(local::FOLDER).join(volume))
}

/// Makes the directory of a volume; one that is there stays as it is.
pub(super) fn make(root: &Path, volume: &str) -> Result<PathBuf, String> {
    let path = place(root, volume)?;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
    }
    match std::fs::create_dir(&path) {
        Ok(()) => {
            let mode = std::fs::Permissions::from_mode(MODE);
            std::fs::set_permissions(&path, mode).map_err(failed)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(&path).map_err(failed)?;
            if !found.is_dir() {
                return Err(format!("{} is not a directory", path.display()));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(path)
}

/// Removes the directory of a volume with all that is in it. Links are removed, never followed.
fn remove(root: &Path, volume: &str) -> Result<(), String> {
    let path = place(root, volume)?;
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Sees to the removal of this node's local volumes until the future is dropped.
pub(crate) async fn keep(context: Arc<Context>) {
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let selector = format!("{}={}", local::NODE_LABEL, context.node_name);
    let first = api
        .list(&ListParams::default().labels(&selector).limit(1))
        .await;
    if let Err(kube::Error::Api(status)) = &first
        && status.code == 403
    {
        // A control plane that is not ours: it has no such volumes.
        tracing::info!("local volumes are not ours to look after");
        return std::future::pending().await;
    }
    let (_, changes) = store(api.clone(), watcher::Config::default().labels(&selector));
    let mut changes = std::pin::pin!(changes);
    let mut removals = FuturesUnordered::new();
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Change::Applied { new, .. }) if is_ours_to_remove(&context, &new) => {
                    removals.push(remove_in_the_end(&context, &api, new));
                }
                Some(_) => {}
                None => return,
            },
            Some(()) = removals.next() => {}
        }
    }
}

fn is_ours_to_remove(context: &Context, volume: &PersistentVolume) -> bool {
    local::node_of(volume) == Some(&context.node_name) && local::is_to_be_removed(volume)
}

async fn remove_in_the_end(
    context: &Context,
    api: &Api<PersistentVolume>,
    volume: Arc<PersistentVolume>,
) {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let mut pause = RETRY_START;
    while let Err(error) = remove_once(context, api, &volume).await {
        tracing::warn!(volume = name, error, "a local volume cannot be removed yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn remove_once(
    context: &Context,
    api: &Api<PersistentVolume>,
    volume: &PersistentVolume,
) -> Result<(), String> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    if local::data_goes_too(volume) {
        let (root, name) = (context.root_dir.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || remove(&root, &name)).await;
        removed.unwrap_or_else(|lost| Err(lost.to_string()))?;
    }
    let patch = json!({"metadata": {
        "uid": volume.metadata.uid,
        "resourceVersion": volume.metadata.resource_version,
        "finalizers": null,
    }});
    let done = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match done {
        // Gone, or another one by now: the watch tells of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_once_and_removed_with_all_in_them() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let outside = root.join("outside");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("file"), "kept").expect("written");
        let path = make(root, "pvc-1").expect("made");
        assert_eq!(path, root.join("local-volumes/pvc-1"));
        std::fs::write(path.join("data"), "x").expect("written");
        std::os::unix::fs::symlink(&outside, path.join("link")).expect("linked");
        assert_eq!(make(root, "pvc-1").expect("there"), path);
        assert!(path.join("data").exists());
        remove(root, "pvc-1").expect("removed");
        assert!(!path.exists());
        assert!(outside.join("file").exists());
        remove(root, "pvc-1").expect("nothing to do");
    }

    /// CVE-2025-62878, CVE-2026-44543: no name leads out of the folder, and no link stands in for a volume.
    #[test]
    fn hostile_names_and_links_lead_nowhere() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        std::fs::create_dir_all(root.join("pods")).expect("made");
        for name in ["..", "../pods", "a/../../pods", "", "/etc"] {
            assert!(make(root, name).is_err(), "{name}");
            assert!(remove(root, name).is_err(), "{name}");
        }
        assert!(root.join("pods").exists());
        std::fs::create_dir_all(root.join("local-volumes")).expect("made");
        std::os::unix::fs::symlink("/etc", root.join("local-volumes/pvc-2")).expect("linked");
        assert!(make(root, "pvc-2").is_err());
    }
}
