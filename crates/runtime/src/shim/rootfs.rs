//! The container's file system, built in its own mount namespace from handles: nothing is resolved
//! outside the root, nothing twice.

use std::os::fd::OwnedFd;
use std::path::Path;

use linux::mount::{self, Attributes, Overlay, Propagation as Kernel};
use linux::path::{self, Kind};
use linux::{Context, Error, Result};
use oci::limits::Device;
use oci::{ContainerPlan, Mount, Propagation, Source};
use rustix::fs::{CWD, FileType, Mode};

/// What the rest of the launch needs from the finished file system.
pub(crate) struct RootFs {
    /// The container's root directory, now `/`.
    pub(crate) root: OwnedFd,
    /// The root of its devpts, for the terminal.
    pub(crate) devpts: Option<OwnedFd>,
}

/// Builds the file system and makes it the root of the calling process. The process is in a new
/// mount namespace, in the PID and network namespace of the container and in its cgroup.
pub(crate) fn enter(plan: &ContainerPlan, cgroups: &linux::cgroup::Cgroup) -> Result<RootFs> {
    // What shall propagate to the host must be copied while we are still its peer.
    let mut sources = Vec::new();
    for mount in &plan.mounts {
        let source = match (&mount.source, mount.propagation) {
            (Source::Host(path), Propagation::Bidirectional) => {
                Some(mount::clone_tree(CWD, path, true)?)
            }
            _ => None,
        };
        sources.push(source);
    }
    mount::set_root_propagation(Kernel::Slave)?;
    let layers = Overlay {
        lower: &plan.root.layers,
        upper: Some((plan.root.upper.as_path(), plan.root.work.as_path())),
        // A container does not outlive a power failure, and its file system is never mounted twice.
        volatile: true,
    };
    let overlay = mount::overlay(&layers)?;
    mount::attach_at(&overlay, &plan.root.at)?;
    mount::set_propagation(&overlay, Kernel::Private)?;
    let mut devpts = None;
    let mut dev = None;
    for (mount, source) in plan.mounts.iter().zip(sources) {
        let made = make(plan, mount, source, cgroups, &overlay)
            .map_err(|error| within(error, &mount.destination))?;
        match mount.source {
            Source::Dev => dev = Some(made),
            Source::DevPts => devpts = Some(made),
            _ => {}
        }
    }
    if let Some(dev) = &dev {
        devices(plan, dev, &overlay)?;
    }
    let working_dir = path::create_in_root(&overlay, Path::new(&plan.working_dir), Kind::Directory);
    let working_dir = working_dir.map_err(|error| within(error, &plan.working_dir));
    hide(plan, &overlay, dev.as_ref())?;
    if plan.root.read_only {
        mount::restrict(
            &overlay,
            Attributes {
                read_only: true,
                ..Attributes::default()
            },
            false,
        )?;
    }
    mount::change_root(&overlay)?;
    working_dir?;
    Ok(RootFs {
        root: overlay,
        devpts,
    })
}

fn within(error: Error, path: &str) -> Error {
    let Error { operation, source } = error;
    Error {
        operation: format!("mount {path}: {operation}"),
        source,
    }
}

/// Makes one mount and attaches it; answers with its root.
fn make(
    plan: &ContainerPlan,
    wanted: &Mount,
    source: Option<OwnedFd>,
    cgroups: &linux::cgroup::Cgroup,
    root: &OwnedFd,
) -> Result<OwnedFd> {
    if wanted.source == Source::Cgroup {
        return cgroup(wanted, cgroups, root);
    }
    let made = source_of(wanted, source, root)?;
    let kind = match is_directory(&made)? {
        true => Kind::Directory,
        false => Kind::File,
    };
    let destination = Path::new(&wanted.destination);
    let target = path::create_in_root(root, destination, kind)?;
    if matches!(wanted.source, Source::Proc | Source::Sys | Source::Dev) {
        // A link in their place would let the image choose what the masks below apply to.
        path::open_in_root_no_links(root, destination)?;
    }
    mount::attach(&made, &target)?;
    match (&wanted.source, wanted.propagation) {
        (Source::Host(_), Propagation::Bidirectional) => {
            mount::set_propagation(&made, Kernel::Shared)?;
        }
        (Source::Host(_), Propagation::HostToContainer) => {
            mount::set_propagation(&made, Kernel::Slave)?;
        }
        _ => mount::set_propagation(&made, Kernel::Private)?,
    }
    let bound = matches!(
        wanted.source,
        Source::Host(_) | Source::ImageVolume(_) | Source::Image(_)
    );
    if bound && (wanted.read_only || wanted.recursive_read_only) {
        let read_only = Attributes {
            read_only: true,
            ..Attributes::default()
        };
        mount::restrict(&made, read_only, wanted.recursive_read_only)?;
    }
    if plan.privileged && matches!(wanted.source, Source::Proc) && !mount::is_procfs(&made)? {
        return Err(Error::new("mount proc", rustix::io::Errno::INVAL));
    }
    Ok(made)
}

/// What is to be mounted, detached.
fn source_of(wanted: &Mount, source: Option<OwnedFd>, root: &OwnedFd) -> Result<OwnedFd> {
    let attributes = |base: Attributes| Attributes {
        read_only: wanted.read_only,
        ..base
    };
    Ok(match &wanted.source {
        Source::Proc => mount::new_filesystem("proc", &[], attributes(Attributes::INERT))?,
        Source::Sys => mount::new_filesystem("sysfs", &[], attributes(Attributes::INERT))?,
        Source::Dev => {
            let options = [("mode", Some("755")), ("size", Some("65536k"))];
            let base = Attributes {
                no_suid: true,
                no_exec: true,
                ..Attributes::default()
            };
            mount::new_filesystem("tmpfs", &options, base)?
        }
        Source::DevPts => {
            let options = [
                ("mode", Some("0620")),
                ("ptmxmode", Some("0666")),
                ("gid", Some("5")),
            ];
            let base = Attributes {
                no_suid: true,
                no_exec: true,
                ..Attributes::default()
            };
            mount::new_filesystem("devpts", &options, base)?
        }
        Source::Mqueue => mount::new_filesystem("mqueue", &[], Attributes::INERT)?,
        // It is more than one mount, attached where it is made.
        Source::Cgroup => return Err(Error::new("make a cgroup mount", rustix::io::Errno::INVAL)),
        Source::Host(path) => match source {
            Some(copied) => copied,
            None => mount::clone_tree(CWD, path, true)?,
        },
        Source::ImageVolume(on_host) => image_volume(on_host, &wanted.destination, root)?,
        // An overlay without an upper directory has at least two lower ones.
        Source::Image(layers) if layers.len() == 1 => mount::clone_tree(CWD, &layers[0], false)?,
        Source::Image(layers) => mount::overlay(&Overlay {
            lower: layers,
            upper: None,
            volatile: false,
        })?,
    })
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).context(|| "look at a mount")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// A volume that the image declares: a directory of the runtime's that starts as a copy of the
/// image's content there.
fn image_volume(on_host: &Path, destination: &str, root: &OwnedFd) -> Result<OwnedFd> {
    if !on_host.exists() {
        std::fs::create_dir_all(on_host).context(|| format!("make {}", on_host.display()))?;
        if let Ok(content) = path::open_in_root(root, Path::new(destination)) {
            super::child::copy_tree(&content, &path::open_dir(on_host)?)?;
        }
    }
    mount::clone_tree(CWD, on_host, false)
}

/// Shows a container its own control groups. Version 1: each hierarchy bound at its usual name;
/// version 2: the tree of its cgroup namespace.
fn cgroup(wanted: &Mount, cgroups: &linux::cgroup::Cgroup, root: &OwnedFd) -> Result<OwnedFd> {
    let inert = Attributes {
        read_only: wanted.read_only,
        ..Attributes::INERT
    };
    let destination = Path::new(&wanted.destination);
    let target = path::create_in_root(root, destination, Kind::Directory)?;
    if cgroups.is_v2() {
        linux::namespace::unshare(&[linux::namespace::Kind::Cgroup])?;
        let tree = mount::new_filesystem("cgroup2", &[], inert)?;
        mount::attach(&tree, &target)?;
        return Ok(tree);
    }
    let base = mount::new_filesystem("tmpfs", &[("mode", Some("755"))], Attributes::INERT)?;
    mount::attach(&base, &target)?;
    for (name, dir) in cgroups.dirs_by_mount() {
        let own = mount::clone_tree(CWD, &dir, false)?;
        let target = path::create_in_root(&base, Path::new(&name), Kind::Directory)?;
        mount::attach(&own, &target)?;
        mount::restrict(&own, inert, false)?;
        for controller in name.split(',').filter(|controller| *controller != name) {
            rustix::fs::symlinkat(&name, &base, controller).context(|| "link a controller")?;
        }
    }
    mount::restrict(&base, inert, false)?;
    Ok(base)
}

/// The harmless devices and the links that programs expect.
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

fn devices(plan: &ContainerPlan, dev: &OwnedFd, root: &OwnedFd) -> Result<()> {
    for (name, major, minor) in DEVICES {
        node(
            dev,
            Path::new(name),
            FileType::CharacterDevice,
            (*major, *minor),
            0o666,
        )?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(*target, dev, *name).context(|| format!("link /dev/{name}"))?;
    }
    if plan.privileged {
        host_devices(Path::new("/dev"), dev, Path::new(""))?;
    }
    for device in &plan.devices {
        requested(device, root)?;
    }
    Ok(())
}

fn node(dir: &OwnedFd, name: &Path, kind: FileType, numbers: (u32, u32), mode: u32) -> Result<()> {
    let what = || format!("make device {}", name.display());
    let device = rustix::fs::makedev(numbers.0, numbers.1);
    match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), device) {
        Ok(()) => rustix::fs::chmodat(
            dir,
            name,
            Mode::from_raw_mode(mode),
            rustix::fs::AtFlags::empty(),
        )
        .context(what),
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::new(what(), error)),
    }
}

/// A privileged container has every device of the host that has a node under `/dev`.
fn host_devices(from: &Path, dev: &OwnedFd, below: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = below.join(entry.file_name());
        let skip = matches!(
            name.to_str(),
            Some("pts" | "shm" | "mqueue" | "console" | "fd" | "core")
        );
        let Ok(stat) = rustix::fs::lstat(entry.path()) else {
            continue;
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !skip => host_devices(&entry.path(), dev, &name)?,
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) if !skip => {
                let file = entry.file_name();
                let dir = path::create_in_root(dev, &Path::new("/").join(below), Kind::Directory)?;
                let numbers = (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                );
                node(&dir, Path::new(&file), kind, numbers, stat.st_mode & 0o777)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn requested(device: &Device, root: &OwnedFd) -> Result<()> {
    let host = Path::new(&device.host_path);
    let stat = rustix::fs::stat(host).context(|| format!("look at {}", host.display()))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        let what = format!("{} is not a device", host.display());
        return Err(Error::new(what, rustix::io::Errno::NODEV));
    }
    let path_in = Path::new(&device.container_path);
    let (Some(parent), Some(name)) = (path_in.parent(), path_in.file_name()) else {
        return Err(Error::new("place a device", rustix::io::Errno::INVAL));
    };
    let dir = path::create_in_root(root, parent, Kind::Directory)?;
    let numbers = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    node(&dir, Path::new(name), kind, numbers, stat.st_mode & 0o777)
}

/// Hides and protects paths. What covers them is made here and held open, never found by name in
/// the container.
fn hide(plan: &ContainerPlan, root: &OwnedFd, dev: Option<&OwnedFd>) -> Result<()> {
    let read_only = Attributes {
        read_only: true,
        ..Attributes::default()
    };
    for path_in in &plan.readonly_paths {
        let Some(target) = existing(root, path_in)? else {
            continue;
        };
        let copy = mount::clone_fd(&target, true)?;
        mount::attach(&copy, &target)?;
        mount::restrict(&copy, read_only, true)?;
    }
    if plan.masked_paths.is_empty() {
        return Ok(());
    }
    // Where a volume has taken the place of /dev, the host's null device does it, read-only: its mode
    // is not the container's to change.
    let null = match dev {
        Some(dev) => path::open_in_root_no_links(dev, Path::new("null"))?,
        None => mount::clone_tree(CWD, Path::new("/dev/null"), false)?,
    };
    require_null(&null)?;
    for path_in in &plan.masked_paths {
        let Some(target) = existing(root, path_in)? else {
            continue;
        };
        let cover = match is_directory(&target)? {
            true => {
                let options = [("size", Some("0")), ("nr_inodes", Some("2"))];
                mount::new_filesystem("tmpfs", &options, Attributes::INERT.read_only())?
            }
            false if dev.is_none() => mount::clone_tree(CWD, Path::new("/dev/null"), false)?,
            false => mount::clone_fd(&null, false)?,
        };
        mount::attach(&cover, &target)?;
        if dev.is_none() {
            mount::restrict(&cover, read_only, false)?;
        }
    }
    Ok(())
}

/// A handle on a path in the container, if it is there; links in it are refused, as the path is one
/// of `/proc` or `/sys`.
fn existing(root: &OwnedFd, path_in: &str) -> Result<Option<OwnedFd>> {
    match path::open_in_root_no_links(root, Path::new(path_in)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() || error.errno() == nix::libc::ENOTDIR => Ok(None),
        Err(error) => Err(error),
    }
}

/// Verifies that what shall hide things is the null device.
fn require_null(null: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(null).context(|| "look at /dev/null")?;
    let numbers = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && numbers == (1, 3) {
        return Ok(());
    }
    Err(Error::new(
        "/dev/null is not the null device",
        rustix::io::Errno::INVAL,
    ))
}
