//! Names resolved inside one directory and nowhere else, whatever links somebody planted there.
//!
//! `*_in_root` treats the directory as `/` (absolute links and `..` stay inside); `*_beneath`
//! refuses anything that leaves it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Context, Error, Result};

/// What a path must turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else that something can be bound over: made as an empty file.
    File,
}

/// Opens a trusted directory as a handle for the calls below.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .context(|| format!("open directory {}", path.display()))
}

/// Opens a handle (not for reading) on a path inside `root`; links stay inside.
pub fn open_in_root(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open(root, path, OFlags::PATH, ResolveFlags::IN_ROOT)
}

/// Opens a handle on a path inside `root` that may contain no link at all.
pub fn open_in_root_no_links(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open(
        root,
        path,
        OFlags::PATH,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens a handle on a path below `dir`; fails when it leads out or through a link.
pub fn open_beneath(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open(
        dir,
        path,
        OFlags::PATH,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens a regular file inside `root` for reading. Never blocks on a pipe or a device planted
/// there: it is refused.
pub fn read_file_in_root(root: impl AsFd, path: &Path) -> Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open(root, path, flags, ResolveFlags::IN_ROOT)?;
    let stat = rustix::fs::fstat(&fd).context(|| format!("look at {}", path.display()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(
            format!("{} is not a regular file", path.display()),
            Errno::INVAL,
        ));
    }
    Ok(fd.into())
}

fn open(root: impl AsFd, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    // The kernel answers EAGAIN when a rename elsewhere made the answer uncertain.
    for _ in 0..128 {
        let opened = rustix::fs::openat2(
            root.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        );
        match opened {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            opened => return opened.context(|| format!("open {}", path.display())),
        }
    }
    Err(Error::new(format!("open {}", path.display()), Errno::AGAIN))
}

/// Opens a path inside `root`, making what is missing: directories with mode 0755 and at the end a
/// directory or an empty file. Links are followed inside `root` only; where one leads to nothing,
/// its target is made (also inside `root`).
pub fn create_in_root(root: impl AsFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    let mut wanted = inside(Path::new("/"), path);
    // As many links as the kernel follows.
    for _ in 0..40 {
        match open_in_root(root.as_fd(), &wanted) {
            Ok(found) => return check_kind(found, path, kind),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        match create_or_find_link(root.as_fd(), &wanted, kind)? {
            Made::Whole(fd) => return Ok(fd),
            Made::Link(instead) => wanted = instead,
        }
    }
    Err(Error::new(format!("make {}", path.display()), Errno::LOOP))
}

enum Made {
    Whole(OwnedFd),
    /// On the way lies a link that leads to nothing: this is where it would lead.
    Link(PathBuf),
}

fn create_or_find_link(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<Made> {
    let parts: Vec<&OsStr> = path.iter().skip(1).collect();
    let mut so_far = PathBuf::from("/");
    let mut dir = open_in_root(root, &so_far)?;
    for (index, name) in parts.iter().enumerate() {
        let above = so_far.clone();
        so_far.push(name);
        let last = index + 1 == parts.len();
        let part = if last { kind } else { Kind::Directory };
        match open_in_root(root, &so_far) {
            Ok(found) => {
                dir = check_kind(found, &so_far, part)?;
                continue;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        if let Ok(target) = rustix::fs::readlinkat(&dir, *name, Vec::new()) {
            let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
            let rest: PathBuf = parts[index + 1..].iter().collect();
            return Ok(Made::Link(inside(&above, &target.join(rest))));
        }
        make(dir.as_fd(), name, part).context(|| format!("make {}", so_far.display()))?;
        // What was just made is opened without following a link that took its place.
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        dir = check_kind(
            open(dir.as_fd(), Path::new(name), OFlags::PATH, how)?,
            &so_far,
            part,
        )?;
    }
    Ok(Made::Whole(dir))
}

/// A path from `base` as an absolute one without dots; climbing stops at `/`.
fn inside(base: &Path, path: &Path) -> PathBuf {
    let mut clean = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        base.to_path_buf()
    };
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

fn make(dir: impl AsFd, name: &OsStr, kind: Kind) -> rustix::io::Result<()> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn check_kind(fd: OwnedFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    let stat = rustix::fs::fstat(&fd).context(|| format!("look at {}", path.display()))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (kind, is_directory) {
        (Kind::Directory, true) | (Kind::File, false) => Ok(fd),
        (Kind::Directory, false) => Err(Error::new(
            format!("{} is not a directory", path.display()),
            Errno::NOTDIR,
        )),
        (Kind::File, true) => Err(Error::new(
            format!("{} is a directory", path.display()),
            Errno::ISDIR,
        )),
    }
}
