//! Volumes that need a driver which is not on this node: what is said about them.
//!
//! The words are those of a node without the helper programs and drivers in question; the pod waits, and is tried again.

use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Volume};

use super::VolumeError;

const HELPER: &str = "bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program.";

fn nfs(volume: &str, server: &str, path: &str, target: &str) -> VolumeError {
    VolumeError::set_up(
        volume,
        &format!(
            "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs {server}:{path} {target}\n\
             Output: mount: {target}: {HELPER}\n"
        ),
    )
}

fn iscsi(volume: &str) -> VolumeError {
    VolumeError::told(format!(
        "MountVolume.WaitForAttach failed for volume \"{volume}\" : failed to get any path for iscsi disk, last err seen:\n\
         exec: \"iscsiadm\": executable file not found in $PATH"
    ))
}

fn unknown_driver(driver: &str) -> String {
    format!("driver name {driver} not found in the list of registered CSI drivers")
}

/// About a volume of a pod; `target` is where it would lie.
pub(super) fn refusal(volume: &Volume, target: &str) -> VolumeError {
    let name = volume.name.as_str();
    if let Some(source) = &volume.nfs {
        return nfs(name, &source.server, &source.path, target);
    }
    if volume.iscsi.is_some() {
        return iscsi(name);
    }
    if let Some(source) = &volume.csi {
        let why = unknown_driver(&source.driver);
        let why = format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}");
        return VolumeError::set_up(name, &why);
    }
    if volume.git_repo.is_some() {
        // A repository's hooks would run as root (CVE-2024-10220, CVE-2025-1767).
        let why =
            "gitRepo volumes are disabled; clone in an init container with an emptyDir instead";
        return VolumeError::set_up(name, why);
    }
    VolumeError::unprocessed(name, "no volume plugin matched")
}

/// About a persistent volume.
pub(super) fn refusal_of_persistent(name: &str, spec: &PersistentVolumeSpec) -> VolumeError {
    if let Some(source) = &spec.nfs {
        let target = format!("volumes/kubernetes.io~nfs/{name}");
        return nfs(name, &source.server, &source.path, &target);
    }
    if spec.iscsi.is_some() {
        return iscsi(name);
    }
    if let Some(source) = &spec.csi {
        let why = unknown_driver(&source.driver);
        return VolumeError::told(format!(
            "MountVolume.MountDevice failed for volume \"{name}\" : kubernetes.io/csi: attacher.MountDevice failed to \
             create newCsiDriverClient: {why}"
        ));
    }
    VolumeError::unprocessed(name, "no volume plugin matched")
}
