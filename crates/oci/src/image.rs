//! Image configurations and manifests: read with bounds, because whoever made them is a stranger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest manifest, index or configuration that is read.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// The most layers an image may have.
pub const MAX_LAYERS: usize = 500;

/// The part of an image configuration that matters to a container (the same in Docker's and OCI's
/// format).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Processor architecture in Go's words.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// What to run and how.
    pub config: RunConfig,
    /// The layers.
    pub rootfs: RootFs,
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, by name or number.
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// The default arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// The directory to start in.
    pub working_dir: String,
    /// Paths that are to be volumes.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// The signal that asks it to stop.
    pub stop_signal: String,
    /// Free-form labels: data, never acted upon.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// The layers of an image, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Digests of the unpacked layers.
    pub diff_ids: Vec<String>,
}

fn null_is_default<'de, D, T>(value: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(value).map(Option::unwrap_or_default)
}

/// Why a document of an image is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidImage {
    /// Too long to be honest.
    #[error("{what} of {bytes} bytes is longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong {
        /// Which document.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON it should be.
    #[error("{what} is malformed")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// What was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A digest is malformed or of an unknown kind.
    #[error("unsupported digest {0:?}")]
    Digest(String),
    /// More layers than anybody needs.
    #[error("image has more than {MAX_LAYERS} layers")]
    TooManyLayers,
}

impl ImageConfig {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, InvalidImage> {
        let config: ImageConfig = document("image configuration", bytes)?;
        if config.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(InvalidImage::TooManyLayers);
        }
        config
            .rootfs
            .diff_ids
            .iter()
            .try_for_each(|digest| check_digest(digest))?;
        Ok(config)
    }

    /// The chain ID of each layer, lowest first: what the file system is after that layer, named by
    /// its content.
    pub fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::new();
        for diff in &self.rootfs.diff_ids {
            let id = match chain.last() {
                None => diff.clone(),
                Some(below) => digest(format!("{below} {diff}").as_bytes()),
            };
            chain.push(id);
        }
        chain
    }
}

/// Where a blob is and how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its length in bytes.
    pub size: i64,
    /// In an index: what machine it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form annotations, such as the name in an archive.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What machine an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Processor architecture in Go's words.
    pub architecture: String,
    /// Operating system.
    pub os: String,
}

/// A manifest of one image, or an index of several: told apart by what is filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: i64,
    /// What it is, if it says so.
    pub media_type: Option<String>,
    /// The configuration of an image.
    pub config: Option<Descriptor>,
    /// The layers of an image, lowest first.
    pub layers: Vec<Descriptor>,
    /// The images of an index.
    pub manifests: Vec<Descriptor>,
}

impl Manifest {
    /// Reads a manifest or an index.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, InvalidImage> {
        let manifest: Manifest = document("image manifest", bytes)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(InvalidImage::TooManyLayers);
        }
        let all = manifest
            .config
            .iter()
            .chain(&manifest.layers)
            .chain(&manifest.manifests);
        all.map(|descriptor| &descriptor.digest)
            .try_for_each(|digest| check_digest(digest))?;
        Ok(manifest)
    }

    /// In an index: the entry for Linux on this architecture (in Go's words), or the only one that
    /// says nothing.
    pub fn for_platform(&self, architecture: &str) -> Option<&Descriptor> {
        let fits = |entry: &&Descriptor| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|p| p.os == "linux" && p.architecture == architecture)
        };
        let silent = |entry: &&Descriptor| entry.platform.is_none();
        self.manifests
            .iter()
            .find(fits)
            .or_else(|| self.manifests.iter().find(silent))
    }
}

/// The architecture of this machine in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn document<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, InvalidImage> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(InvalidImage::TooLong {
            what,
            bytes: bytes.len(),
        });
    }
    serde_json::from_slice(bytes).map_err(|source| InvalidImage::Malformed { what, source })
}

fn check_digest(digest: &str) -> Result<(), InvalidImage> {
    if crate::reference::valid_digest(digest) {
        return Ok(());
    }
    Err(InvalidImage::Digest(digest.to_owned()))
}
