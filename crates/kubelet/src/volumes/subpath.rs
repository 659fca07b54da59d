//! Parts of volumes as mounts of their own.
//!
//! A container that writes into a volume may plant links there. So the path is resolved by the kernel inside the volume
//! and held open, and what is open is mounted, not its name (the lesson of upstream's sub-path vulnerabilities).

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use linux::path::Kind;

/// Which mount of which container a sub-path is for.
pub(super) struct Place<'a> {
    pub(super) pod_dir: &'a Path,
    pub(super) volume: &'a str,
    /// The volume itself.
    pub(super) path: &'a Path,
    pub(super) container: &'a str,
    /// The number of the mount in the container.
    pub(super) index: usize,
}

/// Mounts a part of a volume at a place that no container can reach, and answers with that place.
pub(super) fn prepare(place: &Place<'_>, sub: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub);
    if relative.is_absolute() {
        return Err(format!(
            "error SubPath `{sub}` must not be an absolute path"
        ));
    }
    if relative.components().any(|c| c == Component::ParentDir) {
        return Err(format!(
            "unable to provision SubPath `{sub}`: must not contain '..'"
        ));
    }
    mount(place, relative).map_err(|error| {
        // The user is not told what the node's file system looks like.
        tracing::warn!(error = cri::chain(&error), sub, "cannot prepare a sub-path");
        format!(
            "failed to prepare subPath for volumeMount \"{}\" of container \"{}\"",
            place.volume, place.container
        )
    })
}

fn mount(place: &Place<'_>, relative: &Path) -> linux::Result<PathBuf> {
    let volume = linux::path::open_dir(place.path)?;
    let part = match linux::path::open_in_root(&volume, relative) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            let made = linux::path::create_in_root(&volume, relative, Kind::Directory)?;
            inherit(&volume, &made);
            made
        }
        Err(error) => return Err(error),
    };
    let target = place
        .pod_dir
        .join("volume-subpaths")
        .join(place.volume)
        .join(place.container)
        .join(place.index.to_string());
    detach(&target);
    make_target(&part, &target)?;
    let clone = linux::mount::clone_fd(&part, true)?;
    linux::mount::attach_at(&clone, &target)?;
    Ok(target)
}

/// A new directory has the owner's group and the permissions of its volume, for the sake of fsGroup.
fn inherit(volume: &impl AsFd, made: &impl AsFd) {
    let Ok(stat) = rustix::fs::fstat(volume) else {
        return;
    };
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&made.as_fd())
    );
    let group = std::os::unix::fs::chown(&path, None, Some(stat.st_gid));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.st_mode & 0o7777);
    if let Err(error) = group.and_then(|()| std::fs::set_permissions(&path, mode)) {
        tracing::debug!(%error, "a sub-path does not have the permissions of its volume");
    }
}

/// What an earlier instance of the container had there.
fn detach(target: &Path) {
    while linux::mount::is_mount_point(target).unwrap_or(false) {
        if linux::mount::unmount(target).is_err() {
            break;
        }
    }
}

fn make_target(part: &impl AsFd, target: &Path) -> linux::Result<()> {
    use linux::Context;
    let what = || format!("make {}", target.display());
    let io =
        |e: std::io::Error| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO);
    let stat = rustix::fs::fstat(part).context(what)?;
    let directory =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    if let (false, Some(parent)) = (directory, target.parent()) {
        std::fs::create_dir_all(parent).map_err(io).context(what)?;
        if target.is_dir() {
            std::fs::remove_dir(target).map_err(io).context(what)?;
        }
        return std::fs::File::create(target)
            .map(drop)
            .map_err(io)
            .context(what);
    }
    if target.is_file() {
        std::fs::remove_file(target).map_err(io).context(what)?;
    }
    std::fs::create_dir_all(target).map_err(io).context(what)
}
