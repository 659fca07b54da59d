//! A Service, its pods with their zones, and its slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Caches, Change, Key, Look, Names, Wake};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{MANAGED_BY, SERVICE_NAME};
use crate::{pods, services};

const ZONE: &str = "topology.kubernetes.io/zone";
/// Index of our slices by `namespace/service`.
const BY_SERVICE: &str = "service";

/// All that a decision may depend on.
pub struct Observed {
    /// The Service.
    pub service: Arc<Service>,
    /// The pods that it selects, by name.
    pub pods: Vec<Arc<Pod>>,
    /// The nodes of these pods that exist, with their zones.
    pub zones: BTreeMap<String, Option<String>>,
    /// Its slices that are ours and not on their way out, by name.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Unused name suffixes.
    pub names: Names,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on_root::<Service>()
        .on::<Pod>(services::keys_of_pod)
        .on::<EndpointSlice>(|change, _| service_of(change.latest()).into_iter().collect())
        .on::<Node>(keys_of_node)
        .index::<Pod>(pods::BY_NODE, |pod| vec![pods::node_name(pod).to_owned()])
        .index::<EndpointSlice>(BY_SERVICE, |slice| {
            let service = service_of(slice).map(|key| key.to_string());
            service.into_iter().collect()
        });
}

/// The Service that one of our slices belongs to.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY.0).map(String::as_str) != Some(MANAGED_BY.1) {
        return None;
    }
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some(Key::new(namespace, labels.get(SERVICE_NAME)?.clone()))
}

fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get(ZONE).cloned()
}

/// A node that comes, goes or moves to another zone concerns the services of its pods.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && zone(old) == zone(new)
    {
        return Vec::new();
    }
    let name = change.latest().metadata.name.as_deref().unwrap_or_default();
    let mut keys = Vec::new();
    for pod in caches.of::<Pod>().indexed(pods::BY_NODE, name) {
        let arrival = Change {
            old: None,
            new: Some(pod),
        };
        keys.extend(services::keys_of_pod(&arrival, caches));
    }
    keys.sort();
    keys.dedup();
    keys
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let service = look.caches.of::<Service>().get(look.key)?;
    let mut pods = Vec::new();
    if let Some(selector) = services::selector(&service) {
        pods = look.caches.of::<Pod>().in_namespace(&look.key.namespace);
        pods.retain(|p| selector.matches_map(p.metadata.labels.as_ref()));
    }
    let nodes = look.caches.of::<Node>();
    let zones = pods
        .iter()
        .filter_map(|p| nodes.named("", pods::node_name(p)))
        .map(|node| (node.metadata.name.clone().unwrap_or_default(), zone(&node)))
        .collect();
    let slices = look.caches.of::<EndpointSlice>();
    let mut slices = slices.indexed(BY_SERVICE, &look.key.to_string());
    slices.retain(|s| s.metadata.deletion_timestamp.is_none());
    Some(Observed {
        service,
        pods,
        zones,
        slices,
        names: look.names,
    })
}
