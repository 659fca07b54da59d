//! The plug-ins of the default profile. Adding one is a file and a line in a table.

mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod taint_toleration;
pub(crate) mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub(crate) use volume_restrictions::is_disk;

use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The best score of one plug-in.
pub const MAX_SCORE: i64 = 100;

/// Why a node cannot take the pod; empty when it can.
pub type Check<'a> = Box<dyn Fn(&NodeInfo) -> Vec<String> + 'a>;

/// Says which nodes cannot take a pod.
pub trait Filter: Sync {
    /// The plug-in's name, as in kube-scheduler's configuration.
    fn name(&self) -> &'static str;
    /// Why no node at all can take the pod as things are.
    fn pre_filter(&self, _snapshot: &Snapshot, _pod: &PodInfo) -> Option<String> {
        None
    }
    /// Why this node cannot take the pod; empty when it can.
    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String>;
    /// The same for many nodes, after one look at the whole picture.
    fn over<'a>(&'a self, snapshot: &'a Snapshot, pod: &'a PodInfo) -> Check<'a> {
        Box::new(move |node| self.filter(snapshot, pod, node))
    }
    /// Whether the node may take the pod, which it refused for these reasons, once other pods have left it.
    fn gives_way(&self, _pod: &PodInfo, _node: &NodeInfo, _reasons: &[String]) -> bool {
        true
    }
}

/// Says which of the nodes left are better.
pub trait Score: Sync {
    /// The plug-in's name, as in kube-scheduler's configuration.
    fn name(&self) -> &'static str;
    /// Bigger is better.
    fn score(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64;
    /// Brings the scores of all nodes into 0 to [`MAX_SCORE`]; they are there already unless a plug-in says otherwise.
    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        scores
    }
    /// The scores of all nodes, in their range.
    fn score_all(&self, snapshot: &Snapshot, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
        let scores = nodes.iter().map(|node| self.score(snapshot, pod, node));
        self.normalize(scores.collect())
    }
}

/// Asked in this order; the first that refuses a node ends the matter.
pub static FILTERS: &[&dyn Filter] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &volume_restrictions::VolumeRestrictions,
    &node_volume_limits::NodeVolumeLimits,
    &volume_binding::VolumeBinding,
    &volume_zone::VolumeZone,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
];

/// With their weights.
pub static SCORES: &[(&dyn Score, i64)] = &[
    (&taint_toleration::TaintToleration, 3),
    (&node_affinity::NodeAffinity, 2),
    (&node_resources_fit::NodeResourcesFit, 1),
    (&pod_topology_spread::PodTopologySpread, 2),
    (&inter_pod_affinity::InterPodAffinity, 2),
    (&balanced_allocation::BalancedAllocation, 1),
    (&image_locality::ImageLocality, 1),
];

/// Scales scores so that the highest is [`MAX_SCORE`]; `reverse` makes the lowest the best.
fn normalize(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().max().copied().unwrap_or(0);
    for score in &mut scores {
        *score = if highest == 0 {
            0
        } else {
            *score * MAX_SCORE / highest
        };
        if reverse {
            *score = MAX_SCORE - *score;
        }
    }
    scores
}
