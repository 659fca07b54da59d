//! Small things that a child does on its way to the container's program.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use linux::{Context, Error, Result};
use oci::user::{MAX_DATABASE_BYTES, User, UserChoice};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// Finds the user in the container's own user database. The root directory is the container's.
pub(crate) fn resolve_user(choice: &UserChoice, root: &OwnedFd) -> Result<User> {
    let passwd = database(root, "etc/passwd")?;
    let group = database(root, "etc/group")?;
    oci::user::resolve(choice, &passwd, &group)
        .map_err(|error| Error::new("find the user", std::io::Error::other(error)))
}

/// A user database as text, empty when there is none; a hostile one is not read without end.
fn database(root: &OwnedFd, name: &str) -> Result<String> {
    let file = match linux::path::read_file_in_root(root, Path::new(name)) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_DATABASE_BYTES + 1).read_to_end(&mut bytes);
    read.context(|| format!("read {name}"))?;
    if bytes.len() as u64 > MAX_DATABASE_BYTES {
        let long = std::io::Error::other(format!("it is longer than {MAX_DATABASE_BYTES} bytes"));
        return Err(Error::new(format!("read {name}"), long));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The file to run for a program's name, as a shell would find it. The words of the errors are
/// those that pods show.
pub(crate) fn find_program(
    name: &str,
    environment: &[String],
) -> std::result::Result<PathBuf, String> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(rustix::io::Errno::NOENT) => Err(format!(
                "exec: {name:?}: stat {name}: no such file or directory"
            )),
            Err(rustix::io::Errno::ISDIR) => Err(format!("exec: {name:?}: is a directory")),
            Err(_) => Err(format!("exec: {name:?}: permission denied")),
        };
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="));
    let mut denied = false;
    for dir in path
        .unwrap_or_default()
        .split(':')
        .filter(|dir| dir.starts_with('/'))
    {
        let candidate = Path::new(dir).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(rustix::io::Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    let reason = if denied {
        "permission denied"
    } else {
        "executable file not found in $PATH"
    };
    Err(format!("exec: {name:?}: {reason}"))
}

fn executable(path: &Path) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(rustix::io::Errno::ISDIR),
        _ => rustix::fs::accessat(
            rustix::fs::CWD,
            path,
            rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        ),
    }
}

/// Strings for exec; none can contain NUL, which the plan has checked.
pub(crate) fn c_strings(strings: &[String]) -> Result<Vec<CString>> {
    let convert = |text: &String| CString::new(text.as_bytes());
    strings
        .iter()
        .map(convert)
        .collect::<std::result::Result<_, _>>()
        .map_err(std::io::Error::from)
        .context(|| "prepare the arguments")
}

/// A path for exec.
pub(crate) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(std::io::Error::from)
        .context(|| "prepare the program's path")
}

/// Copies a directory's content with owners and modes. Links stay links, nothing is followed,
/// devices are left out.
pub(crate) fn copy_tree(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let what = || "copy the content of a volume";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let stat = rustix::fs::fstat(from).context(what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    copy_attributes(&stat, to, Path::new("."))?;
    let open = rustix::fs::openat(from, ".", flags, Mode::empty()).context(what)?;
    for entry in rustix::fs::Dir::read_from(&open).context(what)? {
        let name = entry.context(what)?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&open, &name, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(0o700)).context(what)?;
                let inner = rustix::fs::openat(&open, &name, flags, Mode::empty()).context(what)?;
                let copy = rustix::fs::openat(to, &name, flags, Mode::empty()).context(what)?;
                copy_tree(&inner, &copy)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(&open, &name, read, Mode::empty()).context(what)?;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, &name, write, Mode::from_raw_mode(0o600));
                let mut copy = std::fs::File::from(copy.context(what)?);
                std::io::copy(&mut std::fs::File::from(source), &mut copy).context(what)?;
                copy_attributes(
                    &stat,
                    to,
                    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())),
                )?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&open, &name, Vec::new()).context(what)?;
                rustix::fs::symlinkat(&target, to, &name).context(what)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_attributes(stat: &rustix::fs::Stat, dir: &OwnedFd, name: &Path) -> Result<()> {
    use rustix::fs::{Gid, Uid};
    let what = || "copy the attributes of a volume";
    let owner = (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    );
    rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).context(what)
}
