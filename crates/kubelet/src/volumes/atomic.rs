//! Files of a volume that change all at once.
//!
//! The files stand in a directory named after the time; `..data` is a link to it, and every name in the volume a link
//! through `..data`. An update makes a new directory and moves `..data`: a reader sees the old files or the new ones,
//! never some of each. Links are replaced, never followed. (Upstream: `pkg/volume/util/atomic_writer.go`.)

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use pod_lifecycle::payload::{File, Files};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume at `dir` hold exactly `files`. `group` may read all of them.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let current = current(dir)?;
    if let Some(current) = &current
        && holds(&dir.join(current), files, group)?
    {
        return link_names(dir, files);
    }
    let name = format!(
        "..{}",
        jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f")
    );
    let fresh = dir.join(&name);
    DirBuilder::new().mode(0o755).create(&fresh)?;
    let written = write_files(&fresh, files, group).and_then(|()| switch(dir, &name));
    if let Err(error) = written {
        fs::remove_dir_all(&fresh)?;
        return Err(error);
    }
    link_names(dir, files)?;
    remove_stale(dir, files, &name)
}

/// The directory that `..data` leads to, if it is one of ours.
fn current(dir: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(dir.join(DATA)) {
        Ok(name) => {
            let plain = name.components().count() == 1;
            Ok(plain.then_some(name))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn mode_of(file: &File, group: Option<u32>) -> u32 {
    file.mode | if group.is_some() { 0o440 } else { 0 }
}

/// Whether the directory has these files and no others.
fn holds(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    collect(dir, dir, &mut found)?;
    if !found.iter().eq(files.keys()) {
        return Ok(false);
    }
    for (path, file) in files {
        let Ok(mut open) = fs::File::open(dir.join(path)) else {
            return Ok(false);
        };
        let metadata = open.metadata()?;
        let same_size = metadata.len() == u64::try_from(file.data.len()).unwrap_or(0);
        let same_mode = metadata.permissions().mode() & 0o777 == mode_of(file, group);
        let mut data = Vec::new();
        open.read_to_end(&mut data)?;
        if !same_size || !same_mode || data != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() {
            collect(root, &path, found)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn write_files(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        own_directory(dir, group)?;
    }
    for (path, file) in files {
        let mut parent = dir.to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            parent.push(part);
            if !parent.exists() {
                DirBuilder::new().mode(0o755).create(&parent)?;
                own_directory(&parent, group)?;
            }
        }
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(path))?;
        open.write_all(&file.data)?;
        let owner = file.owner.and_then(|o| u32::try_from(o).ok());
        if owner.is_some() || group.is_some() {
            chown(dir.join(path), owner, group)?;
        }
        open.set_permissions(Permissions::from_mode(mode_of(file, group)))?;
    }
    Ok(())
}

fn own_directory(dir: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        chown(dir, None, group)?;
    }
    let set_group = if group.is_some() { 0o2000 } else { 0 };
    fs::set_permissions(dir, Permissions::from_mode(0o755 | set_group))
}

fn switch(dir: &Path, name: &str) -> io::Result<()> {
    let new = dir.join(NEW_DATA);
    remove_entry(&new)?;
    symlink(name, &new)?;
    fs::rename(&new, dir.join(DATA))
}

/// Removes what stands there, without following it.
fn remove_entry(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn top_names(files: &Files) -> BTreeSet<&str> {
    files
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect()
}

fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    for name in top_names(files) {
        let link = dir.join(name);
        let target = Path::new(DATA).join(name);
        if fs::read_link(&link).is_ok_and(|t| t == target) {
            continue;
        }
        remove_entry(&link)?;
        symlink(&target, &link)?;
    }
    Ok(())
}

/// Removes links to files that are no more, and former directories.
fn remove_stale(dir: &Path, files: &Files, keep: &str) -> io::Result<()> {
    let names = top_names(files);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == DATA || name == keep || names.contains(name.as_str()) {
            continue;
        }
        remove_entry(&entry.path())?;
    }
    Ok(())
}
