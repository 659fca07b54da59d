//! The volumes of a pod on this node: made, kept up to date, mounted into containers, taken away.
//!
//! All of it lies below the pod's directory, laid out as upstream does. What containers can write to is never walked by
//! name without care: sub-paths go through [`subpath`], files made of API objects through [`atomic`].

mod atomic;
pub(crate) mod certificates;
pub(crate) mod claims;
mod group;
mod host_path;
mod keys;
pub(crate) mod local;
mod own;
mod remote;
mod subpath;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cri::v1::{ImageSpec, KeyValue, Mount, MountPropagation};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume, VolumeMount};
use pod_lifecycle::payload::{self, Given};
use pod_lifecycle::{pod as parts, quantity};

use crate::context::Context;
use crate::objects::Needs;
use crate::operations::facts;

pub(crate) use own::own_files;

/// All volumes are there.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// When a token or a certificate in them has to be replaced.
    pub(crate) refresh_at: Option<Timestamp>,
}

/// A volume could not be made, in the words that users know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct VolumeError(String);

impl VolumeError {
    fn told(message: String) -> Self {
        Self(message)
    }

    fn set_up(volume: &str, why: &str) -> Self {
        Self(format!(
            "MountVolume.SetUp failed for volume \"{volume}\" : {why}"
        ))
    }

    /// It is not even known what there is to mount.
    fn unprocessed(volume: &str, why: &str) -> Self {
        Self(format!(
            "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], failed to \
             process volumes=[{volume}]: {why}"
        ))
    }
}

/// Makes all volumes of a pod. Safe to repeat: what is there stays.
pub(crate) async fn mount(
    context: &Context,
    pod: &Pod,
    pod_ips: Vec<String>,
) -> Result<Mounted, VolumeError> {
    set_up_all(context, pod, &pod_ips, |_| true).await
}

/// Writes those volumes anew that are made of API objects.
pub(crate) async fn refresh(
    context: &Context,
    pod: &Pod,
    pod_ips: Vec<String>,
) -> Result<Mounted, VolumeError> {
    set_up_all(context, pod, &pod_ips, |v| payload::references(v).is_some()).await
}

async fn set_up_all(
    context: &Context,
    pod: &Pod,
    pod_ips: &[String],
    which: impl Fn(&Volume) -> bool,
) -> Result<Mounted, VolumeError> {
    let mut mounted = Mounted::default();
    let volumes = parts::spec(pod).volumes.iter().flatten();
    for volume in volumes.filter(|v| which(v)) {
        let refresh_at = set_up(context, pod, volume, pod_ips).await?;
        let both = [mounted.refresh_at, refresh_at];
        mounted.refresh_at = both.into_iter().flatten().min();
    }
    Ok(mounted)
}

async fn set_up(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    pod_ips: &[String],
) -> Result<Option<Timestamp>, VolumeError> {
    if is_claimed(volume) {
        return claims::set_up(context, pod, volume).await.map(|()| None);
    }
    let failed = |why: String| VolumeError::set_up(&volume.name, &why);
    if volume.image.is_some() {
        // It is pulled for the container that mounts it.
        return Ok(None);
    }
    if let Some(source) = &volume.host_path {
        return host_path::check(source).map(|()| None).map_err(failed);
    }
    let pod_dir = context.pod_dir(parts::uid(pod));
    let Some(dir) = volume_dir(&pod_dir, volume) else {
        let target = pod_dir.join("volumes/kubernetes.io~nfs").join(&volume.name);
        return Err(remote::refusal(volume, &target.display().to_string()));
    };
    if let Some(source) = &volume.empty_dir {
        let done = empty_dir(&dir, source, fs_group(pod));
        return done
            .map(|()| None)
            .map_err(|e| failed(format!("{}: {e}", dir.display())));
    }
    written(context, pod, volume, &dir, pod_ips)
        .await
        .map_err(failed)
}

/// Whether a claim stands between the pod and the volume.
fn is_claimed(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// A volume that is written out of API objects.
async fn written(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
    pod_ips: &[String],
) -> Result<Option<Timestamp>, String> {
    let Some(references) = payload::references(volume) else {
        return Err("no volume plugin matched".to_owned());
    };
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let needs = Needs {
        config_maps: owned(&references.config_maps),
        secrets: owned(&references.secrets),
        bundles: Vec::new(),
    };
    let sources = context.objects.get(parts::namespace(pod), &needs).await?;
    let mut given = Given::default();
    let mut times = Vec::new();
    for projection in references.tokens {
        let token = tokens::get(context, pod, &volume.name, projection).await?;
        times.push(token.refresh_at);
        given.tokens.push(token.value);
    }
    for projection in references.bundles {
        given
            .anchors
            .push(context.objects.anchors(projection).await?);
    }
    for (index, projection) in references.certificates {
        let place = (volume.name.clone(), index);
        let own = certificates::get(context, pod, place, projection).await?;
        times.extend(own.wake_at);
        given.credentials.push((own.key, own.chain));
    }
    let refresh_at = times.into_iter().min();
    let facts = facts(context, pod_ips);
    let files = payload::files(pod, volume, &sources, &facts, given)?;
    prepare(dir, volume).map_err(|e| format!("{}: {e}", dir.display()))?;
    atomic::write(dir, &files, fs_group(pod)).map_err(|e| e.to_string())?;
    Ok(refresh_at)
}

/// Where a volume lies; `None` for kinds that have no place of their own or are not known here.
fn volume_dir(pod_dir: &Path, volume: &Volume) -> Option<PathBuf> {
    let plugin = if volume.empty_dir.is_some() {
        "empty-dir"
    } else if volume.config_map.is_some() {
        "configmap"
    } else if volume.secret.is_some() {
        "secret"
    } else if volume.projected.is_some() {
        "projected"
    } else if volume.downward_api.is_some() {
        "downward-api"
    } else {
        return None;
    };
    let plugin = format!("kubernetes.io~{plugin}");
    Some(pod_dir.join("volumes").join(plugin).join(&volume.name))
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = parts::spec(pod).security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> std::io::Result<()> {
    let fresh = !dir.exists();
    std::fs::create_dir_all(dir)?;
    let mut new = fresh;
    if source.medium.as_deref() == Some("Memory") && !is_mounted(dir)? {
        let limit = source.size_limit.as_ref().and_then(quantity::units);
        let size = limit.filter(|l| *l > 0).map(|l| l.to_string());
        memory_at(dir, size.as_deref()).map_err(std::io::Error::other)?;
        new = true;
    }
    if new {
        // What containers did to their directory since is theirs.
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::os::unix::fs::chown(dir, None, group)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A tmpfs that programs can be run from.
fn memory_at(dir: &Path, size: Option<&str>) -> linux::Result<()> {
    let mut options = vec![("mode", Some("0777"))];
    if let Some(size) = size {
        options.push(("size", Some(size)));
    }
    let attributes = linux::mount::Attributes::default();
    let memory = linux::mount::new_filesystem("tmpfs", &options, attributes)?;
    linux::mount::attach_at(&memory, dir)
}

fn is_mounted(dir: &Path) -> std::io::Result<bool> {
    linux::mount::is_mount_point(dir).map_err(std::io::Error::other)
}

/// Secrets and tokens never touch a disk.
fn prepare(dir: &Path, volume: &Volume) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let in_memory = volume.secret.is_some() || volume.projected.is_some();
    if in_memory && !is_mounted(dir)? {
        linux::mount::tmpfs_at(dir, "mode=0755").map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// The mounts of a container. `images` are those of its volumes that are images, by the volume's name.
pub(crate) async fn mounts(
    context: &Context,
    pod: &Pod,
    container: &Container,
    variables: &[KeyValue],
    images: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, String> {
    let pod_dir = context.pod_dir(parts::uid(pod));
    let volumes = parts::spec(pod).volumes.as_deref().unwrap_or_default();
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(volume) = volumes.iter().find(|v| v.name == mount.name) else {
            return Err(format!(
                "cannot find volume \"{}\" to mount into container \"{}\"",
                mount.name, container.name
            ));
        };
        if let Some(image) = images.get(&volume.name) {
            if sub_path(mount, variables)?.is_some() {
                return Err(format!(
                    "volume \"{}\": paths below the root of an image are not supported",
                    volume.name
                ));
            }
            mounts.push(Mount {
                host_path: String::new(),
                image: Some(ImageSpec {
                    image: image.clone(),
                    ..Default::default()
                }),
                readonly: true,
                ..one_mount(mount, volume, Path::new(""))?
            });
            continue;
        }
        let claimed = context.claimed.get(parts::uid(pod), &volume.name);
        let path = match (&volume.host_path, &claimed) {
            (Some(source), _) => PathBuf::from(&source.path),
            (None, Some(place)) => place.path.clone(),
            (None, None) => volume_dir(&pod_dir, volume).ok_or("no volume plugin matched")?,
        };
        let place = subpath::Place {
            pod_dir: &pod_dir,
            volume: &volume.name,
            path: &path,
            container: &container.name,
            index,
        };
        let path = match sub_path(mount, variables)? {
            None => path.clone(),
            Some(sub) => subpath::prepare(&place, &sub)?,
        };
        let mut made = one_mount(mount, volume, &path)?;
        made.readonly |= claimed.is_some_and(|place| place.read_only);
        mounts.push(made);
    }
    Ok(mounts)
}

fn one_mount(mount: &VolumeMount, volume: &Volume, path: &Path) -> Result<Mount, String> {
    // Files made of API objects are the kubelet's to write.
    let managed = payload::references(volume).is_some();
    let asked = mount.read_only.unwrap_or(false);
    let recursive = match (asked, mount.recursive_read_only.as_deref()) {
        (_, None | Some("Disabled")) => false,
        (true, Some("Enabled" | "IfPossible")) => true,
        (_, Some(other)) => {
            return Err(format!(
                "failed to resolve recursive read-only mode: volume \"{}\" requested recursive read-only mode {other}, but it is not read-only",
                mount.name
            ));
        }
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let container_path = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    Ok(Mount {
        container_path,
        host_path: path.display().to_string(),
        readonly: asked || managed,
        recursive_read_only: recursive,
        propagation: propagation.into(),
        ..Default::default()
    })
}

/// The sub-path of a mount with its variables filled in.
fn sub_path(mount: &VolumeMount, variables: &[KeyValue]) -> Result<Option<String>, String> {
    let expression = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty());
    let Some(expression) = expression else {
        let plain = mount.sub_path.clone();
        return Ok(plain.filter(|p| !p.is_empty()));
    };
    let missing = std::cell::RefCell::new(None);
    let text = pod_lifecycle::env::expand(expression, |name| {
        let found = variables.iter().find(|v| v.key == name);
        if found.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        found.map(|v| v.value.clone())
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for \"{name}\"")),
        None => Ok(Some(text)),
    }
}

/// Takes everything away that is mounted below a pod's directory, then its volumes with all they hold.
pub(crate) async fn unmount(pod_dir: PathBuf) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(move || unmount_now(&pod_dir)).await;
    done.unwrap_or_else(|lost| Err(lost.to_string()))
}

fn unmount_now(pod_dir: &Path) -> Result<(), String> {
    let mut points = mount_points_below(pod_dir).map_err(|e| e.to_string())?;
    points.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
    for point in points {
        linux::mount::unmount(&point).map_err(|e| cri::chain(&e))?;
    }
    for part in ["volume-subpaths", "volumes"] {
        match std::fs::remove_dir_all(pod_dir.join(part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {part}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn mount_points_below(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|p| PathBuf::from(unescape(p)));
    Ok(points.filter(|p| p.starts_with(dir)).collect())
}

/// The kernel writes blanks and backslashes in paths as octal numbers.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, letter) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(code, letter);
    }
    out
}
