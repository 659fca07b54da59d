//! What is known of one image, and how that is kept on the disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use oci::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::At;

/// An image that is complete on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration: the same content has the same ID wherever it came from.
    pub id: String,
    /// Its names, complete with registry and tag.
    pub repo_tags: BTreeSet<String>,
    /// Its names by manifest digest.
    pub repo_digests: BTreeSet<String>,
    /// Those of its tags that came with a file and not from a registry: they are never asked for at
    /// one.
    #[serde(default)]
    pub loaded_tags: BTreeSet<String>,
    /// What its unpacked layers take on the disk.
    pub size_bytes: u64,
    /// What it says about running it.
    pub config: ImageConfig,
}

impl Image {
    /// True when a name (tag or digest) stands for this image.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.repo_tags.contains(name) || self.repo_digests.contains(name)
    }

    pub(crate) fn file(&self, images: &Path) -> PathBuf {
        images.join(format!("{}.json", self.id.trim_start_matches("sha256:")))
    }

    /// Writes the document so that it is either old or new after a crash.
    pub(crate) fn save(&self, images: &Path) -> Result<(), Error> {
        let path = self.file(images);
        let temporary = path.with_extension("partial");
        let what = "write";
        let mut file = File::create(&temporary).at(what, &temporary)?;
        let bytes = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .at(what, &path)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .at(what, &temporary)?;
        std::fs::rename(&temporary, &path).at(what, &path)?;
        File::open(images)
            .and_then(|dir| dir.sync_all())
            .at("sync", images)
    }

    /// All documents; what cannot be read is a leftover of a crash and is removed.
    pub(crate) fn load_all(images: &Path) -> Result<Vec<Image>, Error> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(images).at("read", images)? {
            let path = entry.at("read", images)?.path();
            let parsed = std::fs::read(&path).ok().and_then(|bytes| {
                let image: Image = serde_json::from_slice(&bytes).ok()?;
                (image.file(images) == path).then_some(image)
            });
            match parsed {
                Some(image) => all.push(image),
                None => {
                    tracing::warn!(path = %path.display(), "removing a damaged image document");
                    std::fs::remove_file(&path).at("remove", &path)?;
                }
            }
        }
        Ok(all)
    }
}
