//! Pulling images from registries.
//!
//! [`Store::pull`] asks the mirrors of a registry and then the registry itself, narrows an index to this machine's platform, fetches
//! the layers that are not there yet into `partial/`, checks every document and layer against its digest and length, and then
//! goes the same way as an archive: the crate's own unpacking, and a document written last.
//!
//! HTTPS is spoken to all but registries on loopback and those that [`PullOptions::insecure`] lists. Nothing that comes from a registry
//! becomes a file name.

mod challenge;
mod credentials;
mod dial;
mod failure;
mod fetch;
mod options;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use oci::image::{Descriptor, Manifest, architecture};
use oci::{ImageConfig, Reference};

pub use credentials::Credentials;
pub use dial::{Dialer, DirectDialer, NamespaceDialer};
pub use options::PullOptions;

use credentials::Login;
use failure::Failure;
use session::Session;

use crate::store::LayerSource;
use crate::{Error, Image, Store, unpack};

impl Store {
    /// Brings an image here and answers with its ID.
    ///
    /// What a digest names is never fetched twice, and a tag is asked for again, but only what has changed is fetched. A name that was
    /// loaded from a file ([`Store::load`]) is never asked for at a registry, which may not even exist: its image is the
    /// answer, so that `imagePullPolicy: Always` works with it.
    pub async fn pull(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: &Credentials,
        options: &PullOptions,
    ) -> Result<String, Error> {
        if let Some(id) = self.settled(reference) {
            return Ok(id);
        }
        let mut failure = Failure::NotFound;
        for endpoint in options.endpoints(&reference.registry) {
            let login = match endpoint.mirror_of {
                Some(_) => Ok(Login::Anonymous),
                None => credentials.login(&reference.registry),
            };
            let login = login
                .map_err(|reason| Failure::Unauthorized(reason.to_owned()).named(reference))?;
            let pulled = match Session::new(&endpoint, reference, login, options) {
                Ok(session) => self.pull_from(&session, reference).await,
                Err(unusable) => Err(unusable),
            };
            match pulled {
                Ok(id) => return Ok(id),
                Err(reason) => {
                    tracing::debug!(
                        endpoint = endpoint.base,
                        ?reason,
                        "could not pull {reference}"
                    );
                    failure = reason;
                }
            }
        }
        Err(failure.named(reference))
    }

    /// The image that a name stands for, when no registry could tell otherwise.
    fn settled(&self, reference: &Reference) -> Option<String> {
        let image = self.status(&reference.to_string())?;
        let loaded = || image.loaded_tags.contains(&reference.to_string());
        (reference.digest.is_some() || loaded()).then_some(image.id)
    }

    async fn pull_from(
        self: &Arc<Self>,
        session: &Session,
        reference: &Reference,
    ) -> Result<String, Failure> {
        if let Some(image) = self.unchanged(session, reference).await {
            let id = image.id.clone();
            let scratch = Scratch::new(self)?;
            let chain = image.config.chain_ids();
            self.hold_chain(&scratch.holder, &chain);
            if self.missing(&chain).is_empty() {
                self.add_fetched(image, scratch).await?;
                return Ok(id);
            }
        }
        let name = reference.digest.as_ref().or(reference.tag.as_ref());
        let top = fetch::manifest(session, name.map_or("latest", String::as_str)).await?;
        let manifest = for_this_machine(session, top.manifest).await?;
        let config_blob = manifest.config.unwrap_or_default();
        let config = self.config(session, &config_blob).await?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let text = "configuration and manifest disagree about the layers";
            return Err(Failure::Remote(text.into()));
        }
        let image = Image {
            id: config_blob.digest.clone(),
            repo_tags: reference.tagged().into_iter().collect(),
            repo_digests: BTreeSet::from([format!("{}@{}", reference.name(), top.digest)]),
            loaded_tags: BTreeSet::new(),
            size_bytes: 0,
            config,
        };
        let chain = image.config.chain_ids();
        let scratch = Scratch::new(self)?;
        // From now on nobody removes the layers that need not be fetched.
        self.hold_chain(&scratch.holder, &chain);
        let wanted = self
            .missing(&chain)
            .into_iter()
            .map(|at| (manifest.layers[at].clone(), scratch.layer(at)))
            .collect();
        fetch::layers(session, wanted).await?;
        self.add_fetched(image, scratch).await?;
        Ok(config_blob.digest)
    }

    /// The image that is already here under the digest that a tag stands for now, with the tag as its name.
    async fn unchanged(&self, session: &Session, reference: &Reference) -> Option<Image> {
        let tag = reference
            .tag
            .as_ref()
            .filter(|_| reference.digest.is_none())?;
        let prefix = format!("{}@", reference.name());
        let from_here = |image: &Image| image.repo_digests.iter().any(|d| d.starts_with(&prefix));
        if !self.list().iter().any(from_here) {
            return None;
        }
        // Not every registry answers this; whatever is wrong shows again when the manifest is fetched.
        let digest = fetch::current_digest(session, tag).await.ok()??;
        let name = format!("{prefix}{digest}");
        let known = |image: &Image| image.repo_digests.contains(&name);
        let image = self.list().into_iter().find(known)?;
        Some(Image {
            repo_tags: reference.tagged().into_iter().collect(),
            loaded_tags: BTreeSet::new(),
            ..image
        })
    }

    async fn config(&self, session: &Session, blob: &Descriptor) -> Result<ImageConfig, Failure> {
        let known = self
            .list()
            .into_iter()
            .find(|image| image.id == blob.digest);
        let config = match known {
            Some(image) => image.config,
            None => ImageConfig::parse(&fetch::config(session, blob).await?)?,
        };
        let fits = |value: &str, ours: &str| value.is_empty() || value == ours;
        if !fits(&config.os, "linux") || !fits(&config.architecture, architecture()) {
            return Err(Error::Platform(architecture()).into());
        }
        Ok(config)
    }

    /// Unpacks what lies in the scratch directory and makes the image known.
    async fn add_fetched(self: &Arc<Self>, image: Image, scratch: Scratch) -> Result<(), Failure> {
        let store = Arc::clone(self);
        let adding = tokio::task::spawn_blocking(move || {
            let added = store.add(image, &mut |at| {
                Ok(LayerSource {
                    path: scratch.layer(at),
                })
            });
            drop(scratch);
            if added.is_err() {
                // The layers below the damaged one are whole, but nobody's.
                store.collect()?;
            }
            added
        });
        match adding.await {
            Ok(added) => Ok(added?),
            Err(panic) => Err(Failure::Remote(panic.to_string())),
        }
    }
}

/// The manifest of the image for this machine: the given one, or one that it lists.
async fn for_this_machine(session: &Session, manifest: Manifest) -> Result<Manifest, Failure> {
    if manifest.manifests.is_empty() {
        return Ok(manifest);
    }
    let entry = manifest
        .for_platform(architecture())
        .ok_or(Error::Platform(architecture()))?;
    let inner = fetch::manifest(session, &entry.digest).await?.manifest;
    if !inner.manifests.is_empty() {
        let text = format!("index entry {} is itself an index", entry.digest);
        return Err(Failure::Remote(text));
    }
    Ok(inner)
}

/// Where a pull puts layers, and the hold on those that are there; both end with it, whichever way it ends.
struct Scratch {
    store: Arc<Store>,
    dir: PathBuf,
    holder: String,
}

impl Scratch {
    fn new(store: &Arc<Store>) -> Result<Scratch, Error> {
        let dir = store.partial()?;
        Ok(Scratch {
            store: Arc::clone(store),
            // Container IDs have no slashes.
            holder: format!("pull/{}", dir.display()),
            dir,
        })
    }

    fn layer(&self, at: usize) -> PathBuf {
        self.dir.join(at.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.store.drop_hold(&self.holder);
        if let Err(error) = unpack::remove_tree(&self.dir) {
            tracing::warn!(%error, "could not clear away a pull");
        }
    }
}
