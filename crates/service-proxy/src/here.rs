//! The node that the proxy runs on, as the API shows it: its zone and its addresses.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use service_rules::Here;

const ZONE: &str = "topology.kubernetes.io/zone";

fn read(node: &Node, name: &str) -> Here {
    let labels = node.metadata.labels.as_ref();
    let status = node.status.as_ref();
    let addresses = status.and_then(|s| s.addresses.as_ref());
    let addresses = addresses.into_iter().flatten();
    Here {
        node: name.to_owned(),
        zone: labels.and_then(|l| l.get(ZONE)).cloned(),
        addresses: addresses.filter_map(|a| a.address.parse().ok()).collect(),
    }
}

/// Keeps what is known of the node up to date, and says so whenever it changes.
pub(crate) fn follow(client: Client, here: Arc<Mutex<Here>>) -> impl Stream<Item = ()> + Send {
    let name = here.lock().node.clone();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(Api::<Node>::all(client), config).default_backoff();
    events.filter_map(move |event| {
        let now = match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => Some(read(&node, &name)),
            _ => None,
        };
        let changed = now.is_some_and(|now| {
            let mut here = here.lock();
            std::mem::replace(&mut *here, now.clone()) != now
        });
        std::future::ready(changed.then_some(()))
    })
}
