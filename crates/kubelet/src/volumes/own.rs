//! Files that every container gets whether it asked or not: `/etc/hosts` and one for its last words.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cri::v1::Mount;
use k8s_openapi::api::core::v1::{Container, Pod};
use pod_lifecycle::{hosts, pod as parts};

use crate::context::Context;

/// The kubelet's own files of a container.
pub(crate) struct OwnFiles {
    pub(crate) mounts: Vec<Mount>,
    /// Where the last words of the container will be.
    pub(crate) termination: Option<String>,
}

/// Writes them.
pub(crate) fn own_files(
    context: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    pod_ips: &[String],
) -> io::Result<OwnFiles> {
    let pod_dir = context.pod_dir(parts::uid(pod));
    let mut mounts = Vec::new();
    let mut mounted = container.volume_mounts.iter().flatten();
    if !pod_ips.is_empty() && !mounted.any(|m| m.mount_path == "/etc/hosts") {
        let path = pod_dir.join("etc-hosts");
        write_hosts(context, pod, pod_ips, &path)?;
        mounts.push(mount(&path, "/etc/hosts"));
    }
    let wanted = container.termination_message_path.as_deref();
    let wanted = wanted.unwrap_or("/dev/termination-log");
    let mut termination = None;
    if !wanted.is_empty() {
        let dir = pod_dir.join("containers").join(&container.name);
        std::fs::create_dir_all(&dir)?;
        let path = dir.join(attempt.to_string());
        std::fs::File::create(&path)?;
        // Whoever the container runs as may write.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        mounts.push(mount(&path, wanted));
        termination = Some(path.display().to_string());
    }
    Ok(OwnFiles {
        mounts,
        termination,
    })
}

fn mount(path: &Path, target: &str) -> Mount {
    Mount {
        host_path: path.display().to_string(),
        container_path: target.to_owned(),
        ..Default::default()
    }
}

fn write_hosts(context: &Context, pod: &Pod, ips: &[String], path: &Path) -> io::Result<()> {
    let own = match parts::is_host_network(pod) {
        true => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        false => String::new(),
    };
    let text = hosts::content(pod, ips, &context.node.cluster_domain, &own);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Written in place: running containers of the pod have this very file mounted.
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}
