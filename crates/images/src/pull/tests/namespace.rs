//! A registry that only another network namespace reaches.

use std::sync::Arc;

use linux::namespace::{self, Kind, Namespace};

use super::registry::Registry;
use super::{Node, image};
use crate::pull::{Credentials, NamespaceDialer, PullOptions};

#[tokio::test]
async fn connections_are_opened_in_the_namespace_of_the_dialer() {
    let made = std::thread::spawn(|| {
        namespace::unshare(&[Kind::Network]).expect("this test needs root");
        linux::interface::loopback_up().unwrap();
        let registry = Registry::start();
        registry.push("small", "latest", &image("far away"));
        (Namespace::current(Kind::Network).unwrap(), registry)
    });
    let (namespace, registry) = made.join().unwrap();
    let name = registry.name("small:latest");

    let node = Node::new();
    let error = node.pull(&name).await.unwrap_err().to_string();
    assert!(error.ends_with("connect: connection refused"), "{error}");

    let options = PullOptions {
        dialer: Arc::new(NamespaceDialer::new(namespace)),
        ..PullOptions::default()
    };
    let none = Credentials::default();
    node.pull_with(&name, &none, &options).await.unwrap();
    // Names are resolved there, too.
    let port = registry.address.port();
    let by_name = format!("localhost:{port}/small:latest");
    node.pull_with(&by_name, &none, &options).await.unwrap();
}
