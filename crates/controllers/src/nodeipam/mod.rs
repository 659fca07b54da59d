//! Every node gets its part of the cluster's pod networks.
//!
//! Invariants: two nodes never share an address; what a node has is never changed; a range that is given out lies in
//! the cluster's network and outside the services'. All nodes are one item, so that ranges are given out one after the
//! other. Upstream: `pkg/controller/nodeipam/ipam` (RangeAllocator).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::plan::reference;
use control::{Action, Event, EventType, Key, Look, Plan, Reconciler, Wake};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

/// The allocator of pod networks.
pub struct NodeIpam {
    /// What it gives out.
    pub ranges: Ranges,
}

/// The networks of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// The cluster's pod networks, at most one per family, each with the prefix length of a node's part.
    pub cluster: Vec<(IpNet, u8)>,
    /// Networks that no pod may have: the services'.
    pub excluded: Vec<IpNet>,
}

/// All that a decision may depend on.
pub struct Observed {
    /// All nodes, by name.
    pub nodes: Vec<Arc<Node>>,
    /// The networks.
    pub ranges: Ranges,
}

impl Reconciler for NodeIpam {
    type Observed = Observed;

    const NAME: &'static str = "cidrAllocator";
    const IDENTITY: &'static str = "node-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Node>(|change, _| {
            let needs = |n: &Arc<Node>| cidrs(n).is_empty();
            let wakes = change.is_deletion() || change.new.as_ref().is_some_and(needs);
            wakes.then(|| Key::cluster("nodes")).into_iter().collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        Some(Observed {
            nodes: look.caches.of::<Node>().all(),
            ranges: self.ranges.clone(),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let mut taken: Vec<IpNet> = o.nodes.iter().flat_map(|n| cidrs(n)).collect();
        let needy = |n: &&Arc<Node>| cidrs(n).is_empty() && n.metadata.deletion_timestamp.is_none();
        let needy: Vec<&Arc<Node>> = o.nodes.iter().filter(needy).collect();
        if needy.is_empty() || o.ranges.cluster.is_empty() {
            return Plan::idle("every node has its networks");
        }
        let count = needy.len();
        let actions = needy
            .into_iter()
            .map(|node| give(node, &o.ranges, &mut taken));
        Plan {
            actions: actions.collect(),
            because: format!("{count} nodes have no network"),
            ..Plan::default()
        }
    }
}

/// The networks a node has.
fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let all = match spec.pod_cidrs.as_deref() {
        Some(all) if !all.is_empty() => all.to_vec(),
        _ => spec.pod_cidr.clone().into_iter().collect(),
    };
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The first free part of every network, or an event that says that there is none.
fn give(node: &Node, ranges: &Ranges, taken: &mut Vec<IpNet>) -> Action {
    let parts: Option<Vec<IpNet>> = ranges
        .cluster
        .iter()
        .map(|(network, prefix)| free(network, *prefix, &ranges.excluded, taken))
        .collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        return Action::Event(Event {
            about: reference(node),
            event_type: EventType::Normal,
            reason: "CIDRNotAvailable".to_owned(),
            message: format!("Node {name} status is now: CIDRNotAvailable"),
        });
    };
    taken.extend(parts.iter().copied());
    let texts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    let patch = json!({
        "metadata": {
            "uid": node.metadata.uid,
            "resourceVersion": node.metadata.resource_version,
        },
        "spec": { "podCIDR": texts[0], "podCIDRs": texts },
    });
    Action::merge(node, patch, None)
}

fn free(network: &IpNet, prefix: u8, excluded: &[IpNet], taken: &[IpNet]) -> Option<IpNet> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
    let clear = |part: &IpNet| {
        let mut others = excluded.iter().chain(taken);
        !others.any(|other| overlaps(part, other))
    };
    network.subnets(prefix).ok()?.find(clear)
}
