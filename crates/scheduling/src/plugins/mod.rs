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
    &inter_pod_affinity::InterPodAffinity,
];

/// With their weights.
pub static SCORES: &[(&dyn Score, i64)] = &[
    (&taint_toleration::TaintToleration, 3),
    (&node_affinity::NodeAffinity, 2),
    (&node_resources_fit::NodeResourcesFit, 1),
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
