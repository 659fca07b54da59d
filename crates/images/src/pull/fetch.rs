//! Manifests, configurations and layers: fetched, and believed only once their digest and length are right.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use http::header::CONTENT_TYPE;
use oci::image::{Descriptor, MAX_DOCUMENT_BYTES, Manifest, digest};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::failure::Failure;
use super::session::{Session, bounded, chunk};
use crate::Error;
use crate::error::At;

/// How many layers come at the same time.
const PARALLEL: usize = 3;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const ACCEPT_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

/// A manifest and the digest of its text.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) digest: String,
    pub(super) manifest: Manifest,
}

/// The digest that a tag stands for, by what the registry says: good for comparing it with what is known, and for nothing else.
pub(super) async fn current_digest(
    session: &Session,
    tag: &str,
) -> Result<Option<String>, Failure> {
    let path = format!("manifests/{tag}");
    let response = session.get(Method::HEAD, &path, ACCEPT_MANIFEST).await?;
    let value = response.headers().get("docker-content-digest");
    Ok(value
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned))
}

/// The manifest or index under a tag or digest.
pub(super) async fn manifest(session: &Session, name: &str) -> Result<Fetched, Failure> {
    let path = format!("manifests/{name}");
    let response = session.get(Method::GET, &path, ACCEPT_MANIFEST).await?;
    let media_type = response.headers().get(CONTENT_TYPE);
    let media_type = media_type
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let bytes = bounded(response.into_body(), MAX_DOCUMENT_BYTES).await?;
    let found = digest(&bytes);
    if oci::reference::valid_digest(name) && found != name {
        return Err(mismatch("manifest", found, name).into());
    }
    let manifest = Manifest::parse(&bytes)?;
    check_kind(&manifest, media_type.as_deref())?;
    Ok(Fetched {
        digest: found,
        manifest,
    })
}

/// Refuses a document that could be taken for an image by one reader and for an index by another (CVE-2021-41190).
fn check_kind(manifest: &Manifest, media_type: Option<&str>) -> Result<(), Failure> {
    let is_image = manifest.config.is_some() || !manifest.layers.is_empty();
    let is_index = !manifest.manifests.is_empty();
    let types = || media_type.into_iter().chain(manifest.media_type.as_deref());
    let fits = match (is_image, is_index) {
        (true, false) => !types().any(|kind| INDEX_TYPES.contains(&kind)),
        (false, true) => !types().any(|kind| MANIFEST_TYPES.contains(&kind)),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let kind = types().next().unwrap_or_default();
    Err(Failure::Remote(format!(
        "manifest of type {kind:?} is neither an image nor an index of images"
    )))
}

/// A configuration.
pub(super) async fn config(session: &Session, blob: &Descriptor) -> Result<bytes::Bytes, Failure> {
    let path = format!("blobs/{}", blob.digest);
    let response = session
        .get(Method::GET, &path, "*/*")
        .await
        .map_err(|e| lost(e, blob))?;
    let bytes = bounded(response.into_body(), MAX_DOCUMENT_BYTES).await?;
    let found = digest(&bytes);
    if found != blob.digest {
        return Err(mismatch("image configuration", found, &blob.digest).into());
    }
    check_length(blob, bytes.len() as u64)?;
    Ok(bytes)
}

/// Layers, each into the file of the same place.
pub(super) async fn layers(
    session: &Session,
    wanted: Vec<(Descriptor, std::path::PathBuf)>,
) -> Result<(), Failure> {
    futures::stream::iter(wanted)
        .map(|(blob, path)| async move { layer(session, &blob, &path).await })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}

async fn layer(session: &Session, blob: &Descriptor, path: &Path) -> Result<(), Failure> {
    let address = format!("blobs/{}", blob.digest);
    let response = session.get(Method::GET, &address, "*/*").await;
    let mut body = response.map_err(|error| lost(error, blob))?.into_body();
    let mut file = tokio::fs::File::create_new(path).await.at("make", path)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(data) = chunk(&mut body).await? {
        length += data.len() as u64;
        // What is too long is not written: the disk is not a stranger's to fill.
        if i64::try_from(length).is_ok_and(|length| length > blob.size) {
            check_length(blob, length)?;
        }
        hash.update(&data);
        file.write_all(&data).await.at("write", path)?;
    }
    file.flush().await.at("write", path)?;
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    if found != blob.digest {
        return Err(mismatch("layer", found, &blob.digest).into());
    }
    check_length(blob, length)
}

fn check_length(blob: &Descriptor, found: u64) -> Result<(), Failure> {
    if i64::try_from(found).is_ok_and(|found| found == blob.size) {
        return Ok(());
    }
    let (digest, size) = (&blob.digest, blob.size);
    Err(Failure::Remote(format!(
        "blob {digest} has not the {size} bytes that the manifest tells"
    )))
}

fn mismatch(what: &str, found: String, expected: &str) -> Error {
    Error::Digest {
        what: what.to_owned(),
        found,
        expected: expected.to_owned(),
    }
}

/// A missing blob is damage, and not the absence of the image.
fn lost(failure: Failure, blob: &Descriptor) -> Failure {
    match failure {
        Failure::NotFound => Failure::Remote(format!("the registry has lost blob {}", blob.digest)),
        other => other,
    }
}
