//! All Services that have or want an address, and the nodes that can answer for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::{Caches, Change, Key, Look, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Addresses, FINALIZER};

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of slices by `namespace/service`.
const BY_SERVICE: &str = "any-service";

/// One Service that has or wants an address.
pub struct Balanced {
    /// The Service.
    pub service: Arc<Service>,
    /// The nodes that may answer for it: all of them or, with `externalTrafficPolicy: Local`, those with end points.
    pub nodes: Vec<Arc<Node>>,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The Services, oldest first.
    pub services: Vec<Balanced>,
    /// Where addresses come from.
    pub addresses: Addresses,
    /// Since when something has been wrong that was told already.
    pub since: Option<Timestamp>,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// The item that stands for all Services.
fn all() -> Vec<Key> {
    vec![Key::cluster("services")]
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on::<Service>(|change, _| {
        let concerned = change.sides().any(is_concerned);
        if concerned { all() } else { Vec::new() }
    })
    .on::<Node>(keys_of_node)
    .on::<EndpointSlice>(keys_of_slice)
    .index::<EndpointSlice>(BY_SERVICE, |slice| {
        service_of(slice)
            .map(|key| key.to_string())
            .into_iter()
            .collect()
    });
}

/// Whether a load balancer of ours is wanted.
pub(super) fn is_wanted(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    service.metadata.deletion_timestamp.is_none()
        && spec.is_some_and(|s| {
            s.type_.as_deref() == Some("LoadBalancer") && s.load_balancer_class.is_none()
        })
}

/// Whether it has our finalizer, and so an address.
pub(super) fn is_held(service: &Service) -> bool {
    let finalizers = service.metadata.finalizers.iter().flatten();
    let class = service
        .spec
        .as_ref()
        .and_then(|s| s.load_balancer_class.as_ref());
    class.is_none() && finalizers.into_iter().any(|f| f == FINALIZER)
}

fn is_concerned(service: &Service) -> bool {
    is_wanted(service) || is_held(service)
}

/// Whether only end points of the node itself may be used.
pub(super) fn is_local(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local")
}

/// Whether the node can answer for anybody: it is ready, and nobody has taken it out.
fn is_eligible(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|l| l.contains_key(EXCLUDED));
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
    ready && !excluded && node.metadata.deletion_timestamp.is_none()
}

fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let picture = |node: Option<&Arc<Node>>| {
        let node = node.filter(|n| is_eligible(n))?;
        let status = node.status.as_ref()?;
        Some(status.addresses.clone().unwrap_or_default())
    };
    let same = picture(change.old.as_ref()) == picture(change.new.as_ref());
    let services = caches.of::<Service>();
    match same || !services.all().iter().any(|s| is_concerned(s)) {
        true => Vec::new(),
        false => all(),
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some(Key::new(namespace, name.clone()))
}

/// End points matter where only those of the node itself may be used, and only which nodes have some.
fn keys_of_slice(change: &Change<EndpointSlice>, caches: &Caches) -> Vec<Key> {
    let ready = |slice: Option<&Arc<EndpointSlice>>| {
        slice.map(|slice| ready_nodes(slice)).unwrap_or_default()
    };
    if ready(change.old.as_ref()) == ready(change.new.as_ref()) {
        return Vec::new();
    }
    let service = service_of(change.latest()).and_then(|key| caches.of::<Service>().get(&key));
    match service.is_some_and(|s| is_concerned(&s) && is_local(&s)) {
        true => all(),
        false => Vec::new(),
    }
}

fn ready_nodes(slice: &EndpointSlice) -> BTreeSet<String> {
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .filter_map(|e| e.node_name.clone())
        .collect()
}

pub(super) fn observe(look: &Look<'_>, addresses: &Addresses) -> Observed {
    let eligible: Vec<Arc<Node>> = {
        let nodes = look.caches.of::<Node>().all();
        nodes.into_iter().filter(|n| is_eligible(n)).collect()
    };
    let mut services = look.caches.of::<Service>().all();
    services.retain(|s| is_concerned(s));
    services.sort_by_key(|s| (s.metadata.creation_timestamp.clone(), Key::of(s.as_ref())));
    let balanced = services.into_iter().map(|service| {
        let mut nodes = eligible.clone();
        if is_local(&service) {
            let key = Key::of(service.as_ref()).to_string();
            let slices = look.caches.of::<EndpointSlice>().indexed(BY_SERVICE, &key);
            let ready: BTreeSet<String> = slices.iter().flat_map(|s| ready_nodes(s)).collect();
            let has_some =
                |n: &Arc<Node>| n.metadata.name.as_ref().is_some_and(|n| ready.contains(n));
            // As long as there is no end point at all any node will do.
            if nodes.iter().any(has_some) {
                nodes.retain(has_some);
            }
        }
        Balanced { service, nodes }
    });
    Observed {
        services: balanced.collect(),
        addresses: addresses.clone(),
        since: look.since,
        now: look.now,
    }
}
