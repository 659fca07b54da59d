//! From Debian's registry into the store.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use oci::image::{architecture, digest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::registry::Registry;
use super::{Node, alice, digests, image, names};
use crate::pull::{Credentials, Dialer, PullOptions};

#[tokio::test]
async fn an_image_comes_by_tag_and_by_digest() {
    let registry = Registry::start();
    let busybox = demo_images::samples::busybox().unwrap().build().unwrap();
    let pushed = registry.push("tools/busybox", "1.0", &busybox);
    let (tag, by_digest) = (
        registry.name("tools/busybox:1.0"),
        registry.name(&format!("tools/busybox@{pushed}")),
    );

    let node = Node::new();
    let id = node.pull(&tag).await.unwrap();
    assert_eq!(id, digests(&busybox).1);
    let found = node.store.status(&tag).unwrap();
    assert_eq!(found.repo_tags, BTreeSet::from([tag.clone()]));
    assert_eq!(found.repo_digests, BTreeSet::from([by_digest.clone()]));
    assert_eq!(found.config.config.cmd, ["sh"]);
    let layers = node.store.layers(&id).unwrap();
    assert!(layers[0].join("bin/busybox").is_file());
    assert_eq!(
        names(&node.store.root().join("partial")),
        Vec::<String>::new()
    );

    let other = Node::new();
    assert_eq!(other.pull(&by_digest).await.unwrap(), id);
    let found = other.store.status(&by_digest).unwrap();
    assert_eq!(found.repo_tags, BTreeSet::new());
    assert_eq!(found.repo_digests, BTreeSet::from([by_digest]));
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let registry = Registry::start();
    let small = image("hello");
    let digest = registry.push("small", "one", &small);
    registry.push("small", "two", &small);
    registry.push("other/small", "one", &small);
    let node = Node::new();
    let id = node.pull(&registry.name("small:one")).await.unwrap();

    // Nobody can fetch these any more.
    let (layer, config) = digests(&small);
    for gone in [layer, config] {
        std::fs::remove_file(registry.blob(&gone)).unwrap();
    }
    for name in ["small:one", "small:two", "other/small:one"] {
        assert_eq!(node.pull(&registry.name(name)).await.unwrap(), id, "{name}");
    }
    assert_eq!(node.store.status(&id).unwrap().repo_tags.len(), 3);

    // What a digest names is not even asked for.
    let name = registry.name(&format!("small@{digest}"));
    drop(registry);
    assert_eq!(node.pull(&name).await.unwrap(), id);
}

/// Pushes an image of many layers, each with a file `etc/N` and a common file that the uppermost wins.
fn push_tower(registry: &Registry, tag: &str, height: usize) -> Vec<String> {
    let layers: Vec<Vec<u8>> = (0..height)
        .map(|at| {
            let built = demo_images::Image::new("layer")
                .text(&format!("etc/{at}"), "here")
                .text("etc/top", &at.to_string())
                .build()
                .unwrap();
            let (_, bytes) = built.blobs().next().unwrap();
            bytes.to_vec()
        })
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"architecture": architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    for blob in layers.iter().chain([&config]) {
        registry.push_blob("tower", blob);
    }
    let describe = |kind: &str, bytes: &[u8]| {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind,
        "config": describe("config.v1+json", &config),
        "layers": layers.iter().map(|layer| describe("layer.v1.tar", layer)).collect::<Vec<_>>()});
    registry.push_manifest("tower", tag, kind, &serde_json::to_vec(&manifest).unwrap());
    diff_ids
}

#[tokio::test]
async fn images_share_layers_and_pulls_may_meet() {
    let registry = Registry::start();
    let node = Node::new();
    push_tower(&registry, "low", 3);
    let layers = push_tower(&registry, "high", 7);
    node.pull(&registry.name("tower:low")).await.unwrap();
    for gone in &layers[..3] {
        std::fs::remove_file(registry.blob(gone)).unwrap();
    }
    let name = registry.name("tower:high");
    let (one, other) = tokio::join!(node.pull(&name), node.pull(&name));
    let id = one.unwrap();
    assert_eq!(id, other.unwrap());
    let dirs = node.store.layers(&id).unwrap();
    assert_eq!(dirs.len(), 7);
    assert_eq!(
        std::fs::read_to_string(dirs[0].join("etc/top")).unwrap(),
        "6"
    );
    assert_eq!(names(&node.store.root().join("layers")).len(), 7);
    assert_eq!(
        names(&node.store.root().join("partial")),
        Vec::<String>::new()
    );

    // A pull that fails high up leaves neither its layers nor a hold on those of others.
    let fresh = Node::new();
    let error = fresh.pull(&name).await.unwrap_err().to_string();
    assert!(error.contains("has lost blob"), "{error}");
    fresh.assert_empty();
    node.store.remove(&id).unwrap();
    assert_eq!(names(&node.store.root().join("layers")).len(), 3);
}

#[tokio::test]
async fn a_tag_that_moved_is_followed() {
    let registry = Registry::start();
    let (old, new) = (image("old"), image("new"));
    let name = registry.name("app:latest");
    let node = Node::new();
    registry.push("app", "latest", &old);
    let first = node.pull(&name).await.unwrap();
    registry.push("app", "latest", &new);
    let second = node.pull(&name).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(node.store.status(&name).unwrap().id, second);
    assert_eq!(
        node.store.status(&first).unwrap().repo_tags,
        BTreeSet::new()
    );
}

#[tokio::test]
async fn an_index_gives_the_image_for_this_machine() {
    let registry = Registry::start();
    let (ours, theirs) = (image("ours"), image("theirs"));
    let mut entries = Vec::new();
    for (built, machine) in [(&theirs, "s390x"), (&ours, architecture())] {
        let digest = registry.push("multi", machine, built);
        let (kind, bytes) = built.manifest();
        entries.push(
            json!({"mediaType": kind, "digest": digest, "size": bytes.len(),
            "platform": {"os": "linux", "architecture": machine}}),
        );
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = |entries: &[serde_json::Value]| {
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        serde_json::to_vec(&index).unwrap()
    };
    let digest = registry.push_manifest("multi", "all", kind, &index(&entries));
    registry.push_manifest("multi", "foreign", kind, &index(&entries[..1]));

    let node = Node::new();
    let foreign = node
        .pull(&registry.name("multi:foreign"))
        .await
        .unwrap_err();
    let text = format!("no match for platform linux/{} in manifest", architecture());
    assert!(foreign.to_string().ends_with(&text), "{foreign}");
    node.assert_empty();

    let id = node.pull(&registry.name("multi:all")).await.unwrap();
    assert_eq!(id, digests(&ours).1);
    let by_digest = registry.name(&format!("multi@{digest}"));
    assert_eq!(
        node.store.status(&id).unwrap().repo_digests,
        BTreeSet::from([by_digest.clone()])
    );
    let other = Node::new();
    assert_eq!(other.pull(&by_digest).await.unwrap(), id);
}

#[tokio::test]
async fn a_damaged_blob_is_refused_and_nothing_stays() {
    let registry = Registry::start();
    let small = image("precious");
    registry.push("small", "latest", &small);
    let (layer, config) = digests(&small);
    let name = registry.name("small:latest");
    let node = Node::new();
    for digest in [layer, config] {
        let path = registry.blob(&digest);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[600 % whole.len()] ^= 1;
        let longer = [whole.as_slice(), b"and more"].concat();
        for damaged in [changed.as_slice(), &whole[..whole.len() / 2], &longer] {
            std::fs::write(&path, damaged).unwrap();
            let error = node.pull(&name).await.unwrap_err().to_string();
            assert!(error.contains(&name), "{error}");
            assert!(error.contains(&digest), "{error}");
            node.assert_empty();
        }
        std::fs::write(&path, whole).unwrap();
    }
    node.pull(&name).await.unwrap();
}

#[tokio::test]
async fn failures_name_the_image() {
    let registry = Registry::start_locked();
    registry.push("private", "latest", &image("private"));
    let node = Node::new();
    let name = registry.name("private:latest");
    let open = PullOptions::default();

    let error = node.pull(&name).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": \
             pull access denied, repository does not exist or may require authorization: \
             server message: unauthorized: authentication required"
        )
    );
    let wrong = Credentials {
        password: "wrong".into(),
        ..alice()
    };
    let error = node.pull_with(&name, &wrong, &open).await.unwrap_err();
    assert!(matches!(error, crate::Error::Unauthorized(_)), "{error}");

    let absent = registry.name("absent:latest");
    let error = node.pull_with(&absent, &alice(), &open).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to pull and unpack image \"{absent}\": failed to resolve reference \
             \"{absent}\": {absent}: not found"
        )
    );
    node.assert_empty();
    node.pull_with(&name, &alice(), &open).await.unwrap();

    let address = registry.address;
    drop(registry);
    let error = Node::new().pull(&name).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "failed to pull and unpack image \"{name}\": failed to do request: Get \
             \"http://{address}/v2/private/manifests/latest\": dial tcp {address}: connect: \
             connection refused"
        )
    );
}

/// Notes that it was asked, and fails.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Dialer for Nowhere {
    async fn dial(&self, host: &str, _: u16) -> io::Result<TcpStream> {
        panic!("{host} must not be asked")
    }
}

#[tokio::test]
async fn a_loaded_image_is_never_asked_of_a_registry() {
    let small = image("from a file");
    let mut archive = Vec::new();
    small.archive(&mut archive).unwrap();
    let nowhere = PullOptions {
        dialer: Arc::new(Nowhere),
        ..PullOptions::default()
    };
    let mut node = Node::new();
    node.store.load(archive.as_slice()).unwrap();
    let none = Credentials::default();
    let id = node.pull_with("small", &none, &nowhere).await.unwrap();
    assert_eq!(id, digests(&small).1);

    // Nor after a restart.
    let store = crate::Store::open(node.store.root()).unwrap();
    node.store = Arc::new(store);
    assert_eq!(node.pull_with("small", &none, &nowhere).await.unwrap(), id);

    // The same content under a registry's name is a registry's.
    let registry = Registry::start();
    registry.push("small", "latest", &small);
    let name = registry.name("small:latest");
    assert_eq!(node.pull(&name).await.unwrap(), id);
    registry.push("small", "latest", &image("newer"));
    assert_ne!(node.pull(&name).await.unwrap(), id);
    assert_eq!(node.pull_with("small", &none, &nowhere).await.unwrap(), id);
}

/// A registry that stops in the middle of the layer, and says when.
async fn stalling(image: demo_images::Built, stalled: Arc<tokio::sync::Notify>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            request.push(stream.read_u8().await.unwrap());
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
            let path = text.split(' ').nth(1).unwrap();
            let mut blobs = image.blobs();
            let blob = blobs.position(|(digest, _)| path.ends_with(digest));
            let bytes = blob.map_or(image.manifest().1, |at| image.blobs().nth(at).unwrap().1);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            // The layer is the first of the blobs.
            if blob == Some(0) {
                stream.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
                stalled.notify_one();
                std::future::pending::<()>().await;
            }
            stream.write_all(bytes).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let stalled = Arc::new(tokio::sync::Notify::new());
    let address = stalling(image("never whole"), Arc::clone(&stalled)).await;
    let node = Node::new();
    let name = format!("{address}/small:latest");
    let partial = node.store.root().join("partial");
    let halfway = async {
        stalled.notified().await;
        assert_eq!(names(&partial).len(), 1);
    };
    tokio::select! {
        pulled = node.pull(&name) => panic!("the layer is not complete: {pulled:?}"),
        () = halfway => {}
    }
    node.assert_empty();
}
