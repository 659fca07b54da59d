//! Unpacking a layer: a tar file from a stranger, applied as root onto the layers below it.
//!
//! The layer is written through a detached overlay of what is below, so the kernel does whiteouts,
//! copies of parent directories and links through lower layers as it will do them for the
//! container. Every name is resolved inside that overlay's root and nowhere else.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use linux::mount::Overlay;
use linux::path::Kind;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::Error;
use crate::error::At;

/// Unpacks the layer in `blob` (plain, gzip or zstd) into `scratch/fs`, given the layers below
/// (uppermost first), and notes its size in `scratch/size`. The content must have the digest
/// `diff_id`.
pub(crate) fn layer(
    blob: &Path,
    diff_id: &str,
    below: &[PathBuf],
    scratch: &Path,
) -> Result<(), Error> {
    let (upper, work) = (scratch.join("fs"), scratch.join("work"));
    for dir in [&upper, &work] {
        std::fs::create_dir(dir).at("make", dir)?;
    }
    set_mode(&upper, 0o755)?;
    let root = match below {
        [] => linux::path::open_dir(&upper)?,
        below => linux::mount::overlay(&Overlay {
            lower: below,
            upper: Some((&upper, &work)),
            volatile: false,
        })?,
    };
    let file = File::open(blob).at("open", blob)?;
    let mut content = Hashing {
        inner: decompress(file)?,
        hash: Sha256::new(),
    };
    let mut unpacker = Unpacker {
        root,
        written: HashSet::new(),
        directories: Vec::new(),
        bytes: 0,
    };
    unpacker.apply(&mut content)?;
    // The digest covers the padding after the last entry, too.
    io::copy(&mut content, &mut io::sink()).at("read", blob)?;
    let found = format!("sha256:{}", hex::encode(content.hash.finalize()));
    if found != diff_id {
        let what = "layer".to_owned();
        return Err(Error::Digest {
            what,
            found,
            expected: diff_id.to_owned(),
        });
    }
    let size = unpacker.bytes;
    drop(unpacker);
    remove_tree(&work)?;
    let note = scratch.join("size");
    std::fs::write(&note, size.to_string()).at("write", &note)?;
    // Everything of the layer is on the disk before it gets its name.
    let dir = File::open(scratch).at("open", scratch)?;
    rustix::fs::syncfs(&dir).at("sync", scratch)
}

/// The content of a file that may be compressed, told by its first bytes.
pub(crate) fn decompress(reader: impl Read + 'static) -> Result<Box<dyn Read>, Error> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let start = io::BufRead::fill_buf(&mut reader).at("read", Path::new("archive"))?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader);
            Box::new(decoder.at("read", Path::new("archive"))?)
        }
        _ => Box::new(reader),
    })
}

struct Hashing {
    inner: Box<dyn Read>,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

struct Unpacker {
    root: OwnedFd,
    /// What this layer has brought, which an opaque marker must not hide.
    written: HashSet<PathBuf>,
    /// Directories get their times at the end: writing into them changes those.
    directories: Vec<(PathBuf, Timestamps)>,
    bytes: u64,
}

impl Unpacker {
    fn apply(&mut self, content: &mut impl Read) -> Result<(), Error> {
        let mut archive = tar::Archive::new(content);
        for entry in archive.entries().at("read", Path::new("layer"))? {
            let mut entry = entry.at("read", Path::new("layer"))?;
            let name = entry.path_bytes().into_owned();
            self.entry(&mut entry, &name).map_err(|error| match error {
                error @ Error::Layer { .. } => error,
                other => refuse(&name, whole_chain(&other)),
            })?;
        }
        for (path, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            // A later entry may have replaced it.
            if let Ok((dir, name)) = self.locate(&path) {
                let _ = rustix::fs::utimensat(&dir, &name, &times, AtFlags::SYMLINK_NOFOLLOW);
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, raw: &[u8]) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = clean(raw)?;
        if path.as_os_str().is_empty() {
            // The root itself: only its attributes matter.
            let metadata = Metadata::of(entry, raw)?;
            return metadata.apply_to_handle(&self.root);
        }
        let (dir, name) = self.locate(&path)?;
        if name.as_bytes() == b".wh..wh..opq" {
            return self.make_opaque(&dir, path.parent().unwrap_or(Path::new("")));
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(b".wh.") {
                return Err(refuse(raw, "malformed whiteout"));
            }
            return remove_at(&dir, OsStr::from_bytes(hidden));
        }
        let metadata = Metadata::of(entry, raw)?;
        self.make_way(&dir, &name, kind)?;
        match kind {
            EntryType::Directory => make_directory(&dir, &name)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.bytes += write_file(&dir, &name, entry)?;
            }
            EntryType::Symlink => {
                let target = link_target(entry, raw)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), &dir, &name)
                    .at("link", Path::new(&name))?;
            }
            EntryType::Link => {
                let target = clean(&link_target(entry, raw)?)?;
                let (from, old) = self.locate(&target)?;
                rustix::fs::linkat(&from, &old, &dir, &name, AtFlags::empty())
                    .at("link", &target)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                make_node(&dir, &name, kind, entry, raw)?;
            }
            other => {
                return Err(refuse(
                    raw,
                    format!("entries of type {other:?} are not supported"),
                ));
            }
        }
        // A hard link shares what its target got.
        if kind != EntryType::Link {
            metadata.apply(&dir, &name, kind)?;
        }
        if kind == EntryType::Directory {
            self.directories.push((path.clone(), metadata.times()));
        }
        self.written.insert(path);
        Ok(())
    }

    /// The directory that an entry lies in, made if it is missing, and the entry's name.
    fn locate(&self, path: &Path) -> Result<(OwnedFd, OsString), Error> {
        let name = path.file_name().unwrap_or_default().to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = Path::new("/").join(parent);
        let dir = linux::path::create_in_root(&self.root, &parent, Kind::Directory)?;
        Ok((dir, name))
    }

    /// Removes what is in the way of a new entry: only a directory stays for a directory.
    fn make_way(&self, dir: &OwnedFd, name: &OsStr, kind: EntryType) -> Result<(), Error> {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if is_directory && kind == EntryType::Directory {
                    return Ok(());
                }
                remove_at(dir, name)
            }
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error).at("look at", Path::new(name)),
        }
    }

    /// Hides what layers below have in a directory.
    fn make_opaque(&self, dir: &OwnedFd, path: &Path) -> Result<(), Error> {
        for name in names(dir)? {
            if !self.written.contains(&path.join(&name)) {
                remove_at(dir, &name)?;
            }
        }
        Ok(())
    }
}

/// Owner, mode, times and extended attributes of an entry.
struct Metadata {
    uid: u32,
    gid: u32,
    mode: u32,
    seconds: i64,
    attributes: Vec<(OsString, Vec<u8>)>,
}

impl Metadata {
    fn of(entry: &mut tar::Entry<'_, impl Read>, raw: &[u8]) -> Result<Metadata, Error> {
        let malformed = |_| refuse(raw, "malformed header");
        let header = entry.header();
        let id = |value: u64| u32::try_from(value).map_err(|_| refuse(raw, "owner out of range"));
        let mut metadata = Metadata {
            // Go writes an ID of nobody in particular as an empty field.
            uid: id(header.uid().unwrap_or(0))?,
            gid: id(header.gid().unwrap_or(0))?,
            mode: header.mode().map_err(malformed)? & 0o7777,
            seconds: header.mtime().unwrap_or(0).try_into().unwrap_or(0),
            attributes: Vec::new(),
        };
        for extension in entry
            .pax_extensions()
            .map_err(malformed)?
            .into_iter()
            .flatten()
        {
            let extension = extension.map_err(malformed)?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            let text = || {
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.parse().ok())
            };
            match key {
                b"uid" => metadata.uid = text().ok_or_else(|| refuse(raw, "malformed uid"))?,
                b"gid" => metadata.gid = text().ok_or_else(|| refuse(raw, "malformed gid"))?,
                _ => {}
            }
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                // The overlay's own attributes would let a layer reach into others.
                if name.starts_with(b"trusted.") || name.starts_with(b"system.") {
                    continue;
                }
                metadata
                    .attributes
                    .push((OsString::from_vec(name.to_vec()), value.to_vec()));
            }
        }
        Ok(metadata)
    }

    fn times(&self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.seconds,
            tv_nsec: 0,
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }

    fn apply(&self, dir: &OwnedFd, name: &OsStr, kind: EntryType) -> Result<(), Error> {
        let path = Path::new(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(dir, name, flags, Mode::empty()).at("open", path)?;
        let owner = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        rustix::fs::chownat(&handle, "", owner.0, owner.1, AtFlags::EMPTY_PATH).at("own", path)?;
        if kind != EntryType::Symlink {
            self.set_attributes(&handle)?;
            // After the owner: changing that clears set-user-ID bits.
            set_mode(&by_handle(&handle), self.mode)?;
        }
        rustix::fs::utimensat(dir, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .at("set the time of", path)
    }

    fn apply_to_handle(&self, handle: &OwnedFd) -> Result<(), Error> {
        let owner = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        let path = by_handle(handle);
        rustix::fs::chownat(CWD, &path, owner.0, owner.1, AtFlags::empty()).at("own", &path)?;
        set_mode(&path, self.mode)
    }

    fn set_attributes(&self, handle: &OwnedFd) -> Result<(), Error> {
        let path = by_handle(handle);
        for (name, value) in &self.attributes {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(&path, name.as_os_str(), value, flags) {
                // Not every file system keeps every attribute.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error).at("set an attribute of", &path),
            }
        }
        Ok(())
    }
}

/// A path that leads to exactly what the handle stands for.
fn by_handle(handle: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", handle.as_raw_fd()).into()
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).at("set the mode of", path)
}

fn refuse(path: &[u8], reason: impl Into<String>) -> Error {
    Error::Layer {
        path: String::from_utf8_lossy(path).into_owned(),
        reason: reason.into(),
    }
}

fn whole_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A name in a layer as a relative path; one that climbs is refused.
fn clean(raw: &[u8]) -> Result<PathBuf, Error> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(raw)).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refuse(raw, "the name leads out of the layer"));
            }
        }
    }
    Ok(path)
}

fn link_target(entry: &tar::Entry<'_, impl Read>, raw: &[u8]) -> Result<Vec<u8>, Error> {
    let target = entry
        .link_name_bytes()
        .ok_or_else(|| refuse(raw, "link without a target"))?;
    Ok(target.into_owned())
}

fn make_directory(dir: &OwnedFd, name: &OsStr) -> Result<(), Error> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).at("make", Path::new(name)),
    }
}

fn write_file(dir: &OwnedFd, name: &OsStr, content: &mut impl Read) -> Result<u64, Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(file.at("make", Path::new(name))?);
    io::copy(content, &mut file).at("write", Path::new(name))
}

fn make_node(
    dir: &OwnedFd,
    name: &OsStr,
    kind: EntryType,
    entry: &tar::Entry<'_, impl Read>,
    raw: &[u8],
) -> Result<(), Error> {
    let number = |value: io::Result<Option<u32>>| {
        value
            .ok()
            .flatten()
            .ok_or_else(|| refuse(raw, "device without numbers"))
    };
    let (file_type, device) = match kind {
        EntryType::Fifo => (FileType::Fifo, 0),
        kind => {
            let major = number(entry.header().device_major())?;
            let minor = number(entry.header().device_minor())?;
            let block = kind == EntryType::Block;
            if !block && (major, minor) == (0, 0) {
                // To the overlay this is a whiteout: the tar format has its own.
                return Err(refuse(raw, "device 0:0 is not allowed"));
            }
            let file_type = if block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            (file_type, rustix::fs::makedev(major, minor))
        }
    };
    rustix::fs::mknodat(dir, name, file_type, Mode::from_raw_mode(0o600), device)
        .at("make", Path::new(name))
}

fn names(dir: &OwnedFd) -> Result<Vec<OsString>, Error> {
    let here = Path::new(".");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(dir.as_fd(), here, flags, Mode::empty()).at("open", here)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&open).at("read", here)? {
        let name = entry.at("read", here)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Removes a file, or a directory with all below it; success when there is nothing. Never follows a
/// link.
fn remove_at(dir: &OwnedFd, name: &OsStr) -> Result<(), Error> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error).at("remove", Path::new(name)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).at("open", Path::new(name))?;
    for child in names(&inner)? {
        remove_at(&inner, &child)?;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).at("remove", Path::new(name))
}

/// Removes a directory of our own with all below it; success when there is none.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}
