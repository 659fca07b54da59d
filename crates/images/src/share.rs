//! Giving a new node the images of another one on the same file system, without copying their contents.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};

use crate::error::At;
use crate::{Error, Store};

/// Makes a store in `to` with all that the store in `from` has by now: directories of its own, and the same files.
/// Layers are never written to, so whichever store removes its name of a file leaves the other's.
///
/// The store in `from` may be in use; what vanishes meanwhile is left out, and so are images that lack it.
///
/// # Errors
/// A directory cannot be read or made, or the two are on different file systems.
pub fn share(from: &Path, to: &Path) -> Result<(), Error> {
    drop(Store::open(to)?);
    let documents = entries(&from.join("images"))?;
    let mut documents_read = Vec::new();
    for name in documents {
        let document = from.join("images").join(&name);
        match fs::read(&document) {
            Ok(bytes) => documents_read.push((name, bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).at("read", &document),
        }
    }
    for layer in entries(&from.join("layers"))? {
        let (made, at) = (
            to.join("partial").join(&layer),
            to.join("layers").join(&layer),
        );
        if share_tree(&from.join("layers").join(&layer), &made)? {
            fs::rename(&made, &at).at("make", &at)?;
        }
    }
    for (name, bytes) in documents_read {
        let document = to.join("images").join(name);
        fs::write(&document, bytes).at("write", &document)?;
    }
    Ok(())
}

/// Names in a directory; none when there is no such directory.
fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name()).at("read", dir))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).at("read", dir),
    }
}

/// The same tree again; false when part of it vanished.
fn share_tree(from: &Path, to: &Path) -> Result<bool, Error> {
    let metadata = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).at("read", from),
    };
    if !metadata.is_dir() {
        return match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("link", to),
        };
    }
    fs::create_dir(to).at("make", to)?;
    for name in entries(from)? {
        if !share_tree(&from.join(&name), &to.join(&name))? {
            return Ok(false);
        }
    }
    copy_attributes(from, to, &metadata)?;
    Ok(true)
}

/// Owner, mode, times and extended attributes of a directory: overlays tell by them what a layer hides.
fn copy_attributes(from: &Path, to: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))
        .at("set the owner of", to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
        .at("set the mode of", to)?;
    let mut names = vec![0; 64 << 10];
    let length = listxattr(from, &mut names).at("read the attributes of", from)?;
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 64 << 10];
        let length = getxattr(from, name, &mut value).at("read the attributes of", from)?;
        setxattr(to, name, &value[..length], XattrFlags::empty())
            .at("set the attributes of", to)?;
    }
    let modified = metadata.modified().at("read", from)?;
    let times = fs::FileTimes::new().set_modified(modified);
    let dir = fs::File::open(to).at("open", to)?;
    dir.set_times(times).at("set the times of", to)
}
