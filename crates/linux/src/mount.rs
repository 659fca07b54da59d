//! Mounts as file descriptors: made detached, finished, and only then attached at a directory that
//! is itself held open.
//!
//! Nothing here resolves a path twice, so nobody can exchange a directory for a link between the
//! check and the mount.

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::{Context, Error, Result};

/// What a mount allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Set-user-ID bits have no effect.
    pub no_suid: bool,
    /// Device files cannot be opened.
    pub no_dev: bool,
    /// Programs cannot be run from it.
    pub no_exec: bool,
}

impl Attributes {
    /// `nosuid,nodev,noexec`: what holds no programs and no devices.
    pub const INERT: Attributes = Attributes {
        read_only: false,
        no_suid: true,
        no_dev: true,
        no_exec: true,
    };

    /// The same, read-only.
    pub fn read_only(self) -> Attributes {
        Attributes {
            read_only: true,
            ..self
        }
    }

    fn bits(self) -> u64 {
        let flag = |on, bit| if on { bit } else { 0 };
        flag(self.read_only, libc::MOUNT_ATTR_RDONLY)
            | flag(self.no_suid, libc::MOUNT_ATTR_NOSUID)
            | flag(self.no_dev, libc::MOUNT_ATTR_NODEV)
            | flag(self.no_exec, libc::MOUNT_ATTR_NOEXEC)
    }
}

/// How mounts made on one side show up on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the original into this one.
    Slave,
    /// Both ways.
    Shared,
}

/// A new instance of a file system, detached. An option without a value is a flag.
pub fn new_filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: Attributes,
) -> Result<OwnedFd> {
    let what = || format!("make a {kind} file system");
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context(what)?;
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value),
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), *key),
        }
        .context(|| format!("set option {key} of a {kind} file system"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).context(what)?;
    let bits = MountAttrFlags::from_bits_retain(attributes.bits() as _);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, bits).context(what)
}

/// The layers of an overlay.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// Read-only layers, the uppermost first; at least one.
    pub lower: &'a [PathBuf],
    /// Where changes go, and the scratch directory beside it on the same file system. Without it
    /// the overlay is read-only.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// True when the upper directory is worth nothing after a power failure: nothing is then
    /// written to the disk for its sake, neither when somebody asks for it nor at the end.
    pub volatile: bool,
}

/// An overlay of directories, detached.
pub fn overlay(layers: &Overlay<'_>) -> Result<OwnedFd> {
    match overlay_by_layer(layers) {
        // Before Linux 6.5 the layers are one string, which this interface limits to 256 bytes; some
        // kernels say so when the layer is added, others only at the end.
        Err(error) if error.errno() == libc::EINVAL => overlay_by_path(layers).map_err(|_| error),
        made => made,
    }
}

fn overlay_by_layer(layers: &Overlay<'_>) -> Result<OwnedFd> {
    let what = || format!("make an overlay of {} layers", layers.lower.len());
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(what)?;
    for layer in layers.lower {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", layer.as_path())
            .context(|| format!("add layer {}", layer.display()))?;
    }
    for (key, value) in overlay_options(layers) {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), key, value),
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key),
        }
        .context(|| format!("set {key} of an overlay"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).context(what)?;
    let flags = MountAttrFlags::empty();
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).context(what)
}

/// The options of an overlay but for its lower layers.
fn overlay_options<'a>(layers: &Overlay<'a>) -> Vec<(&'static str, Option<&'a Path>)> {
    let Some((upper, work)) = layers.upper else {
        return Vec::new();
    };
    // An upper directory must be usable as a lower one later, wherever it is moved to.
    let off = Some(Path::new("off"));
    let mut options = vec![
        ("upperdir", Some(upper)),
        ("workdir", Some(work)),
        ("redirect_dir", off),
        ("metacopy", off),
        ("index", off),
    ];
    if layers.volatile {
        options.push(("volatile", None));
    }
    options
}

/// [`overlay`] for older kernels: mounted for a moment at a directory beside the upper (or the
/// uppermost) one. All options together may have 4095 bytes.
pub(crate) fn overlay_by_path(layers: &Overlay<'_>) -> Result<OwnedFd> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let what = || format!("make an overlay of {} layers", layers.lower.len());
    let beside = layers
        .upper
        .map(|(upper, _)| upper)
        .or(layers.lower.first().map(PathBuf::as_path));
    let missing = || Error::new(what(), rustix::io::Errno::INVAL);
    let beside = beside.and_then(Path::parent).ok_or_else(missing)?;
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let point = beside.join(format!(".mount-{}-{number}", std::process::id()));
    let lower: Vec<&[u8]> = layers
        .lower
        .iter()
        .map(|layer| layer.as_os_str().as_bytes())
        .collect();
    let mut data = [b"lowerdir=", lower.join(&b':').as_slice()].concat();
    for (key, value) in overlay_options(layers) {
        data.push(b',');
        data.extend_from_slice(key.as_bytes());
        if let Some(value) = value {
            data.push(b'=');
            data.extend_from_slice(value.as_os_str().as_bytes());
        }
    }
    let data = CString::new(data).map_err(io::Error::from).context(what)?;
    std::fs::create_dir(&point).context(|| format!("make {}", point.display()))?;
    let mounted = rustix::mount::mount(
        "overlay",
        &point,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    );
    let detached = mounted.context(what).and_then(|()| {
        let copy = clone_tree(CWD, &point, false);
        unmount(&point)?;
        copy
    });
    let removed = std::fs::remove_dir(&point).context(|| format!("remove {}", point.display()));
    let detached = detached?;
    removed?;
    Ok(detached)
}

/// A detached copy (a bind mount) of what is mounted at `path`, seen from `dir`; links are
/// followed.
pub fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir.as_fd(), path, flags)
        .context(|| format!("bind {}", path.display()))
}

/// A detached copy of what the descriptor stands for.
pub fn clone_fd(fd: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd.as_fd(), "", flags).context(|| "bind an open file")
}

/// Attaches a detached mount at the directory or file that `target` stands for.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", target.as_fd(), "", flags)
        .context(|| "attach a mount")
}

/// Attaches a detached mount at a path that nobody else can write to.
pub fn attach_at(mount: impl AsFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", CWD, target, flags)
        .context(|| format!("attach a mount at {}", target.display()))
}

/// Adds attributes to the mount that the descriptor is the root of, with all below it if
/// `recursive`.
pub fn restrict(mount: impl AsFd, attributes: Attributes, recursive: bool) -> Result<()> {
    let bits = libc::mount_attr {
        attr_set: attributes.bits(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set_attributes(mount.as_fd(), &bits, recursive).context(|| "restrict a mount")
}

/// Changes how mounts propagate, for the mount that the descriptor is the root of and all below it.
pub fn set_propagation(mount: impl AsFd, propagation: Propagation) -> Result<()> {
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let bits = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    set_attributes(mount.as_fd(), &bits, true).context(|| "change the propagation of a mount")
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    bits: &libc::mount_attr,
    recursive: bool,
) -> io::Result<()> {
    let recurse = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, `bits` lives through the call and its true
    // size is given; the kernel only reads both.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            (libc::AT_EMPTY_PATH | recurse) as c_long,
            std::ptr::from_ref(bits),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes every mount of the calling thread's namespace propagate as given.
pub fn set_root_propagation(propagation: Propagation) -> Result<()> {
    let flags = MountPropagationFlags::REC
        | match propagation {
            Propagation::Private => MountPropagationFlags::PRIVATE,
            Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
            Propagation::Shared => MountPropagationFlags::SHARED,
        };
    rustix::mount::mount_change("/", flags).context(|| "change the propagation of all mounts")
}

/// Binds a file or directory at a path; both ends are trusted paths.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind(source, target)
        .context(|| format!("bind {} at {}", source.display(), target.display()))
}

/// A tmpfs at a trusted path.
pub fn tmpfs_at(target: &Path, options: &str) -> Result<()> {
    let options = CString::new(options)
        .map_err(io::Error::from)
        .context(|| "mount a tmpfs")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
        .context(|| format!("mount a tmpfs at {}", target.display()))
}

/// Takes a mount away from a path at once; who still uses it keeps it until done. Success when
/// nothing is mounted there.
pub fn unmount(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::new(format!("unmount {}", target.display()), error)),
    }
}

/// Makes the directory (the root of a mount) the root of the calling thread's mount namespace,
/// drops the old root with all below it and goes to `/`.
pub fn change_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(root.as_fd()).context(|| "enter the new root")?;
    rustix::process::pivot_root(".", ".").context(|| "change the root")?;
    // The old root now lies on top of the new one. It must not carry our unmounting to where it
    // came from.
    rustix::mount::mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context(|| "detach the old root from its origin")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "drop the old root")?;
    rustix::process::chdir("/").context(|| "enter the new root")
}

/// The attributes of the mount that an open file lies on: a bind mount must not lose them.
pub fn attributes_of(fd: impl AsFd) -> Result<Attributes> {
    let flags = rustix::fs::fstatvfs(fd.as_fd())
        .context(|| "read mount attributes")?
        .f_flag;
    Ok(Attributes {
        read_only: flags.contains(StatVfsMountFlags::RDONLY),
        no_suid: flags.contains(StatVfsMountFlags::NOSUID),
        no_dev: flags.contains(StatVfsMountFlags::NODEV),
        no_exec: flags.contains(StatVfsMountFlags::NOEXEC),
    })
}

/// True when the open file lies on a real procfs, not on something made to look like one.
pub fn is_procfs(fd: impl AsFd) -> Result<bool> {
    let magic = rustix::fs::fstatfs(fd.as_fd())
        .context(|| "read a file system's type")?
        .f_type;
    Ok(magic == libc::PROC_SUPER_MAGIC as _)
}

/// True when a mount begins at exactly this path.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let flags = rustix::fs::StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags)
        .context(|| format!("look at {}", path.display()))?;
    Ok(stat.stx_attributes.bits() & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
}
