//! `fsGroup` on volumes that keep their data: group and permissions of everything in them.
//!
//! Containers write there, before and meanwhile, so nothing is followed: every step is taken from an open directory, by
//! name, without links, and what is changed is what is open.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use linux::Context;
use pod_lifecycle::pod as parts;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags};

/// How deep a volume is looked into; the kernel's own paths end long before.
const DEPTH_MAX: usize = 512;
const DIRECTORY_BITS: u32 = 0o2770;
const FILE_BITS: u32 = 0o660;

/// What a pod wants done.
pub(super) struct Change {
    group: Option<u32>,
    /// Nothing, when the volume itself is right already.
    on_mismatch_only: bool,
}

impl Change {
    pub(super) fn of(pod: &Pod) -> Self {
        let context = parts::spec(pod).security_context.as_ref();
        let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
        Self {
            group: super::fs_group(pod),
            on_mismatch_only: policy == Some("OnRootMismatch"),
        }
    }
}

/// Carries the change out.
pub(super) fn apply(path: &Path, change: &Change) -> linux::Result<()> {
    let Some(group) = change.group else {
        return Ok(());
    };
    let root = linux::path::open_dir(path)?;
    let stat = rustix::fs::fstat(&root).context(|| format!("look at {}", path.display()))?;
    let right = stat.st_gid == group && stat.st_mode & DIRECTORY_BITS == DIRECTORY_BITS;
    if change.on_mismatch_only && right {
        return Ok(());
    }
    let root = reopen(&root).context(|| format!("open {}", path.display()))?;
    walk(&root, group, 0).context(|| format!("change the group of {}", path.display()))
}

fn reopen(directory: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, ".", flags, Mode::empty())
}

/// The directory after all that is in it: whoever finds the root right may rely on the rest.
fn walk(directory: &OwnedFd, group: u32, depth: usize) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            // Somebody has just removed it.
            Err(rustix::io::Errno::NOENT) => continue,
            found => found?,
        };
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < DEPTH_MAX => {
                walk(&reopen(&found)?, group, depth + 1)?;
            }
            FileType::Directory => {}
            FileType::RegularFile => own(&found, stat.st_mode, FILE_BITS, group)?,
            _ => give(&found, group)?,
        }
    }
    let mode = rustix::fs::fstat(directory)?.st_mode;
    own(directory, mode, DIRECTORY_BITS, group)
}

fn give(file: &impl AsFd, group: u32) -> rustix::io::Result<()> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(file, "", None, Some(Gid::from_raw(group)), flags)
}

fn own(file: &impl AsFd, mode: u32, bits: u32, group: u32) -> rustix::io::Result<()> {
    give(file, group)?;
    let executable = if mode & 0o100 != 0 && bits == FILE_BITS {
        0o110
    } else {
        0
    };
    let wanted = (mode | bits | executable) & 0o7777;
    // An open path cannot be changed itself; its name below /proc leads to it and nowhere else.
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let done = std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted));
    done.map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))
}
