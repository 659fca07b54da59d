//! A node, its lease, its pods, and how the others fare.

use std::sync::Arc;

use control::{Answer, Caches, Change, Key, Look, Question, Resource, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};

use super::Options;
use super::taints::is_eviction;
use crate::pods;

const LEASES: &str = "kube-node-lease";

/// The nodes of one zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// How many are ready.
    pub ready: usize,
    /// How many are not.
    pub not_ready: usize,
    /// Those that are not ready and whose pods are not driven out yet, the longest first.
    pub waiting: Vec<String>,
    /// When the last one was tainted so that its pods are driven out.
    pub tainted: Option<Timestamp>,
}

/// All that a decision may depend on.
pub enum Observed {
    /// A node that is there.
    Known(Box<Known>),
    /// One that this controller has known, by its name.
    Gone(String),
}

/// A node and what surrounds it.
pub struct Known {
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
    /// How many nodes of the whole cluster are ready.
    pub cluster_ready: usize,
    /// Times and rates.
    pub options: Options,
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

/// Whether its pods are driven out, and since when.
fn driven_out(node: &Node) -> Option<Timestamp> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let mut ours = taints.into_iter().flatten().filter(|t| is_eviction(t));
    let first = ours.next()?;
    let added = first.time_added.as_ref().map(|t| t.0);
    Some(added.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A node that becomes ready or ceases to be changes what holds for all others, and so does one that has been tainted:
/// it is the next one's turn.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let picture = |node: Option<&Arc<Node>>| {
        let node = node?;
        let ready = condition(node, "Ready").map(|c| c.status.clone());
        Some((ready, driven_out(node)))
    };
    if picture(change.old.as_ref()) == picture(change.new.as_ref()) {
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
    fn of<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Self {
        let mut zone = Self::default();
        let mut waiting = Vec::new();
        for node in nodes {
            if is_ready(node) {
                zone.ready += 1;
                continue;
            }
            zone.not_ready += 1;
            let ready = condition(node, "Ready");
            match (driven_out(node), ready) {
                (Some(at), _) => zone.tainted = zone.tainted.max(Some(at)),
                (None, Some(ready)) => {
                    let since = ready.last_transition_time.as_ref().map(|t| t.0);
                    waiting.push((since, node.metadata.name.clone().unwrap_or_default()));
                }
                // It has not told its status yet, and is not waited for.
                (None, None) => {}
            }
        }
        waiting.sort();
        zone.waiting = waiting.into_iter().map(|(_, name)| name).collect();
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

pub(super) fn observe(look: &Look<'_>, options: Options) -> Option<Observed> {
    let nodes = look.caches.of::<Node>();
    let Some(node) = nodes.get(look.key) else {
        // Only what has been registered is removed.
        return look.since.map(|_| Observed::Gone(look.key.name.clone()));
    };
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
    let counted = || all.iter().filter(|n| counts(n));
    let pods = look.caches.of::<Pod>();
    let mut ready_pods = pods.indexed(pods::BY_NODE, &look.key.name);
    ready_pods.retain(|p| pods::is_ready(p));
    Some(Observed::Known(Box::new(Known {
        lease: leases.get(&lease_key.key),
        heard,
        live_lease,
        ready_pods,
        zone: Zone::of(counted().filter(|n| zone(n) == own_zone)),
        cluster_ready: counted().filter(|n| is_ready(n)).count(),
        options,
        since: look.since,
        now: look.now,
        node,
    })))
}
