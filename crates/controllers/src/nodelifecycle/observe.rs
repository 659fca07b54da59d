//! A node, its lease, its pods, and how the others fare.

use std::sync::Arc;

use control::{Answer, Caches, Change, Key, Look, Question, Resource, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};

use crate::pods;

const LEASES: &str = "kube-node-lease";

/// How many nodes of a zone are ready, and how many are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Ready nodes.
    pub ready: usize,
    /// All others.
    pub not_ready: usize,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// Its lease.
    pub lease: Option<Arc<Lease>>,
    /// When the last sign of life arrived here.
    pub heard: Timestamp,
    /// What the API says about the lease: its resourceVersion, empty when there is none.
    pub live_lease: Option<String>,
    /// Its pods that are ready.
    pub ready_pods: Vec<Arc<Pod>>,
    /// Nodes of its zone.
    pub zone: Zone,
    /// All nodes.
    pub cluster: Zone,
    /// Since when this controller knows it.
    pub since: Option<Timestamp>,
    /// The moment of the decision.
    pub now: Timestamp,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.index::<Pod>(pods::BY_NODE, |pod| vec![pods::node_name(pod).to_owned()])
        .on::<Node>(keys_of_node)
        .on::<Lease>(|change, _| {
            let key = Key::of(change.latest());
            let ours = key.namespace == LEASES;
            ours.then(|| Key::cluster(key.name)).into_iter().collect()
        })
        .on::<Pod>(|change, _| {
            let Some(new) = &change.new else {
                return Vec::new();
            };
            let before = change.old.as_ref().map(|p| pods::node_name(p));
            let node = pods::node_name(new);
            let bound = !node.is_empty() && before != Some(node);
            bound.then(|| Key::cluster(node)).into_iter().collect()
        });
}

/// One condition of a node.
pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status == "True")
}

/// A node that becomes ready or ceases to be changes what holds for all others.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let ready = |node: Option<&Arc<Node>>| node.is_some_and(|n| is_ready(n));
    if ready(change.old.as_ref()) == ready(change.new.as_ref()) {
        return vec![Key::of(change.latest())];
    }
    let nodes = caches.of::<Node>().all();
    let mut keys: Vec<Key> = nodes.iter().map(|n| Key::of(n.as_ref())).collect();
    if change.is_deletion() {
        keys.push(Key::of(change.latest()));
    }
    keys
}

/// Region and zone; empty when unknown.
fn zone(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key)).cloned();
    let region = label("failure-domain.beta.kubernetes.io/region")
        .or_else(|| label("topology.kubernetes.io/region"))
        .unwrap_or_default();
    let zone = label("failure-domain.beta.kubernetes.io/zone")
        .or_else(|| label("topology.kubernetes.io/zone"))
        .unwrap_or_default();
    format!("{region}/{zone}")
}

fn counts(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    !labels.is_some_and(|l| l.contains_key("node.kubernetes.io/exclude-disruption"))
}

impl Zone {
    fn count(nodes: impl Iterator<Item = bool>) -> Self {
        let mut zone = Self::default();
        for ready in nodes {
            if ready {
                zone.ready += 1;
            } else {
                zone.not_ready += 1;
            }
        }
        zone
    }
}

/// The lease of a node, as something to ask for.
pub(super) fn lease_of(node: &Node) -> Target {
    let name = node.metadata.name.clone().unwrap_or_default();
    Target {
        resource: Resource::of::<Lease>(),
        key: Key::new(LEASES, name),
    }
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let nodes = look.caches.of::<Node>();
    let node = nodes.get(look.key)?;
    let lease_key = lease_of(&node);
    let leases = look.caches.of::<Lease>();
    let heard = leases
        .seen_at(&lease_key.key)
        .or_else(|| nodes.seen_at(look.key))
        .unwrap_or(look.now);
    let live_lease = match look.answers.get(&Question::Get(lease_key.clone())) {
        None => None,
        Some(Answer::Present(live)) => {
            let version = live["metadata"]["resourceVersion"].as_str();
            Some(version.unwrap_or_default().to_owned())
        }
        Some(_) => Some(String::new()),
    };
    let all = nodes.all();
    let own_zone = zone(&node);
    let counted = all.iter().filter(|n| counts(n));
    let in_zone = all.iter().filter(|n| counts(n) && zone(n) == own_zone);
    let mut ready_pods = look
        .caches
        .of::<Pod>()
        .indexed(pods::BY_NODE, &look.key.name);
    ready_pods.retain(|p| pods::is_ready(p));
    Some(Observed {
        lease: leases.get(&lease_key.key),
        heard,
        live_lease,
        ready_pods,
        zone: Zone::count(in_zone.map(|n| is_ready(n))),
        cluster: Zone::count(counted.map(|n| is_ready(n))),
        since: look.since,
        now: look.now,
        node,
    })
}
