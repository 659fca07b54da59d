//! What is left of pods that went away while no kubelet was looking.

use cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};

use crate::context::Context;
use crate::volumes;

/// Removes sandboxes, containers, volumes and logs of pods that this kubelet does not know. A pod may come up meanwhile, so
/// each is looked for in its turn.
pub(crate) async fn orphans(context: &Context) {
    let known = |uid: &str| context.pods.lock().contains_key(uid);
    let request = ListPodSandboxRequest { filter: None };
    let sandboxes = match context.runtime.list_pod_sandbox(request).await {
        Ok(list) => list.items,
        Err(error) => {
            tracing::warn!(%error, "cannot look for orphaned pods");
            return;
        }
    };
    for sandbox in sandboxes {
        let uid = sandbox.metadata.map(|m| m.uid).unwrap_or_default();
        if uid.is_empty() || known(&uid) {
            continue;
        }
        tracing::info!(
            uid,
            sandbox = sandbox.id,
            "removing the sandbox of an orphaned pod"
        );
        remove_sandbox(context, &sandbox.id).await;
    }
    context.cgroups.remove_orphans(known);
    let directories = std::fs::read_dir(context.root_dir.join("pods"));
    for entry in directories.into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if known(&uid) {
            continue;
        }
        if let Err(error) = remove_pod_dir(context, &uid).await {
            tracing::warn!(uid, error, "cannot remove the files of an orphaned pod");
        }
    }
    remove_orphaned_logs(context, known);
}

async fn remove_sandbox(context: &Context, id: &str) {
    let stop = StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let remove = RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let mut done = context.runtime.stop_pod_sandbox(stop).await.map(drop);
    if done.is_ok() {
        done = context.runtime.remove_pod_sandbox(remove).await.map(drop);
    }
    if let Err(error) = done.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) }) {
        tracing::warn!(sandbox = id, %error, "cannot remove the sandbox of an orphaned pod");
    }
}

/// Removes the volumes and then all files of a pod.
pub(crate) async fn remove_pod_dir(context: &Context, uid: &str) -> Result<(), String> {
    let dir = context.pod_dir(uid);
    volumes::unmount(dir.clone()).await?;
    context.claimed.forget(uid);
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Log directories are named `namespace_name_uid`; UIDs have no underscore.
fn remove_orphaned_logs(context: &Context, known: impl Fn(&str) -> bool) {
    let directories = std::fs::read_dir(&context.node.log_root);
    for entry in directories.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, uid)) = name.rsplit_once('_') else {
            continue;
        };
        if known(uid) {
            continue;
        }
        crate::logs::links::remove(&context.node.log_root, &entry.path());
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::debug!(name, %error, "cannot remove orphaned logs");
        }
    }
}
