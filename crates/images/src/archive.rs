//! Image archives: an OCI layout or the output of `docker save`, in a tar file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use oci::image::{Descriptor, MAX_DOCUMENT_BYTES, Manifest, architecture, digest};
use oci::{ImageConfig, Reference};
use serde::Deserialize;

use crate::error::At;
use crate::store::LayerSource;
use crate::{Error, Image, Store, unpack};

/// The most files an archive may have.
const MAX_FILES: usize = 20_000;

/// Unpacks the archive's own files into `scratch`, then adds every image in it.
pub(crate) fn load(
    store: &Store,
    archive: impl Read,
    scratch: &Path,
) -> Result<Vec<String>, Error> {
    let files = spool(archive, scratch)?;
    if files.has("manifest.json") {
        load_docker(store, &files)
    } else if files.has("index.json") {
        load_layout(store, &files)
    } else {
        let reason = "the archive is neither an OCI layout nor made by docker save";
        Err(Error::Archive(reason.into()))
    }
}

/// The files of an archive, each under a number of ours in the scratch directory: names never reach
/// the file system.
#[derive(Debug, Default)]
struct Files {
    paths: HashMap<String, PathBuf>,
    links: HashMap<String, String>,
}

impl Files {
    fn path(&self, name: &str) -> Option<&Path> {
        let mut name = name;
        // Old archives link layers that images share.
        for _ in 0..8 {
            if let Some(path) = self.paths.get(name) {
                return Some(path);
            }
            name = self.links.get(name)?;
        }
        None
    }

    /// Of members of one name the last one counts, as tar has it.
    fn forget(&mut self, name: &str) -> Result<(), Error> {
        self.links.remove(name);
        match self.paths.remove(name) {
            Some(path) => std::fs::remove_file(&path).at("remove", &path),
            None => Ok(()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).is_some()
    }

    fn get(&self, name: &str) -> Result<&Path, Error> {
        self.path(name)
            .ok_or_else(|| Error::Archive(format!("the archive lacks {name}")))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.get(name)?;
        let file = File::open(path).at("open", path)?;
        let mut bytes = Vec::new();
        // One byte more than allowed, so that the parser sees that it is too long.
        file.take(MAX_DOCUMENT_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .at("read", path)?;
        Ok(bytes)
    }
}

fn spool(archive: impl Read, scratch: &Path) -> Result<Files, Error> {
    let mut files = Files::default();
    // The reader is not `'static`, so compression is told apart here with one spooled copy of the
    // whole archive.
    let whole = scratch.join("archive");
    let mut copy = File::create(&whole).at("make", &whole)?;
    io::copy(&mut { archive }, &mut copy).at("write", &whole)?;
    let content = unpack::decompress(File::open(&whole).at("open", &whole)?)?;
    let mut archive = tar::Archive::new(content);
    for (number, entry) in archive.entries().at("read", &whole)?.enumerate() {
        let mut entry = entry.at("read", &whole)?;
        // A member that comes again counts again.
        if number >= MAX_FILES {
            return Err(Error::Archive("the archive has too many files".into()));
        }
        let Some(name) = plain(Path::new("/"), &entry.path().at("read", &whole)?) else {
            continue;
        };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.forget(&name)?;
            let path = scratch.join(number.to_string());
            let mut file = File::create_new(&path).at("make", &path)?;
            io::copy(&mut entry, &mut file).at("write", &path)?;
            files.paths.insert(name, path);
        } else if kind.is_symlink() || kind.is_hard_link() {
            let base = match kind.is_symlink() {
                true => Path::new("/").join(&name),
                false => PathBuf::from("/x"),
            };
            let target = entry.link_name().at("read", &whole)?.unwrap_or_default();
            if let Some(target) = plain(base.parent().unwrap_or(Path::new("/")), &target) {
                files.forget(&name)?;
                files.links.insert(name, target);
            }
        }
    }
    std::fs::remove_file(&whole).at("remove", &whole)?;
    Ok(files)
}

/// A name in the archive without dots, or `None` when it leads out.
fn plain(base: &Path, path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.components().chain(path.components()) {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            _ => {}
        }
    }
    Some(parts.join("/"))
}

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn load_docker(store: &Store, files: &Files) -> Result<Vec<String>, Error> {
    let bytes = files.document("manifest.json")?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).map_err(|source| oci::image::InvalidImage::Malformed {
            what: "manifest.json",
            source,
        })?;
    let mut loaded = Vec::new();
    for found in images {
        let tags = found.repo_tags.unwrap_or_default();
        let tags = tags
            .iter()
            .map(|tag| full_name(tag))
            .collect::<Result<BTreeSet<_>, _>>()?;
        let config = files.document(&found.config)?;
        let layers: Vec<_> = found
            .layers
            .iter()
            .map(|layer| files.get(layer))
            .collect::<Result<_, _>>()?;
        loaded.extend(add(store, &config, tags, BTreeSet::new(), &layers)?);
    }
    Ok(loaded)
}

/// A manifest with the tags and the digests that name it.
type Named = (Vec<u8>, BTreeSet<String>, BTreeSet<String>);

fn load_layout(store: &Store, files: &Files) -> Result<Vec<String>, Error> {
    let index = Manifest::parse(&files.document("index.json")?)?;
    let mut by_digest: BTreeMap<String, Named> = BTreeMap::new();
    for entry in &index.manifests {
        let name = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ]
        .iter()
        .find_map(|key| entry.annotations.get(*key));
        let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
        if let Some(name) = name {
            let reference = Reference::parse(name)?;
            digests.insert(format!("{}@{}", reference.name(), entry.digest));
            tags.extend(reference.tagged());
        }
        let (digest, manifest) = image_manifest(files, entry)?;
        let known = by_digest
            .entry(digest)
            .or_insert((manifest, BTreeSet::new(), BTreeSet::new()));
        known.1.extend(tags);
        known.2.extend(digests);
    }
    let mut loaded = Vec::new();
    for (manifest, tags, digests) in by_digest.into_values() {
        let manifest = Manifest::parse(&manifest)?;
        let config = manifest.config.unwrap_or_default();
        let config = blob_document(files, &config)?;
        let paths: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| files.get(&blob_name(layer)))
            .collect::<Result<_, _>>()?;
        loaded.extend(add(store, &config, tags, digests, &paths)?);
    }
    Ok(loaded)
}

/// The manifest of the image that an index entry leads to, through at most one further index.
fn image_manifest(files: &Files, entry: &Descriptor) -> Result<(String, Vec<u8>), Error> {
    let bytes = blob_document(files, entry)?;
    let manifest = Manifest::parse(&bytes)?;
    if manifest.config.is_some() {
        return Ok((entry.digest.clone(), bytes));
    }
    let fitting = manifest
        .for_platform(architecture())
        .ok_or(Error::Platform(architecture()))?;
    Ok((fitting.digest.clone(), blob_document(files, fitting)?))
}

fn blob_name(blob: &Descriptor) -> String {
    format!("blobs/{}", blob.digest.replacen(':', "/", 1))
}

fn blob_document(files: &Files, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    let bytes = files.document(&blob_name(blob))?;
    let found = digest(&bytes);
    if found != blob.digest {
        let expected = blob.digest.clone();
        return Err(Error::Digest {
            what: "archive member".into(),
            found,
            expected,
        });
    }
    Ok(bytes)
}

fn full_name(tag: &str) -> Result<String, Error> {
    Ok(Reference::parse(tag)?.to_string())
}

fn add(
    store: &Store,
    config: &[u8],
    repo_tags: BTreeSet<String>,
    repo_digests: BTreeSet<String>,
    layers: &[&Path],
) -> Result<Vec<String>, Error> {
    let parsed = ImageConfig::parse(config)?;
    if parsed.rootfs.diff_ids.len() != layers.len() {
        return Err(Error::Archive(
            "configuration and manifest disagree about the layers".into(),
        ));
    }
    let id = digest(config);
    let names = match repo_tags.is_empty() {
        true => vec![id.clone()],
        false => repo_tags.iter().cloned().collect(),
    };
    let image = Image {
        id,
        loaded_tags: repo_tags.clone(),
        repo_tags,
        repo_digests,
        size_bytes: 0,
        config: parsed,
    };
    store.add(image, &mut |at| {
        Ok(LayerSource {
            path: layers[at].to_owned(),
        })
    })?;
    Ok(names)
}
