//! Pulls from Debian's registry and from servers that are up to no good, through the real kernel.

mod credentials;
mod fake;
mod namespace;
mod options;
mod registry;
mod transfer;

use std::path::Path;
use std::sync::Arc;

use demo_images::{Built, Image};
use oci::Reference;

use super::{Credentials, PullOptions};
use crate::{Error, Store};

/// A store of its own, gone with the test.
struct Node {
    store: Arc<Store>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("images")).unwrap();
        Node {
            store: Arc::new(store),
            _dir: dir,
        }
    }

    async fn pull(&self, image: &str) -> Result<String, Error> {
        self.pull_with(image, &Credentials::default(), &PullOptions::default())
            .await
    }

    async fn pull_with(
        &self,
        image: &str,
        credentials: &Credentials,
        options: &PullOptions,
    ) -> Result<String, Error> {
        let reference = Reference::parse(image).unwrap();
        self.store.pull(&reference, credentials, options).await
    }

    /// That nothing of a pull is left.
    fn assert_empty(&self) {
        assert_eq!(self.store.list(), []);
        for dir in ["images", "layers", "partial"] {
            assert_eq!(
                names(&self.store.root().join(dir)),
                Vec::<String>::new(),
                "{dir}"
            );
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A small image whose content is this text.
fn image(text: &str) -> Built {
    Image::new("docker.io/library/small:latest")
        .text("etc/motd", text)
        .build()
        .unwrap()
}

/// The digests of an image's layer and configuration.
fn digests(image: &Built) -> (String, String) {
    let mut digests = image.blobs().map(|(digest, _)| digest.to_owned());
    (digests.next().unwrap(), digests.next().unwrap())
}

/// A user who may see images.
fn alice() -> Credentials {
    Credentials {
        username: "alice".into(),
        password: "secret".into(),
        ..Credentials::default()
    }
}

/// What [`alice`] shows.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";
