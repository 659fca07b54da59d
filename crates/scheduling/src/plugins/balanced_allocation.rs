//! Nodes on which the pod makes the use of CPU and memory more even are better.

use super::{MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Resources;
use crate::snapshot::Snapshot;

/// The plug-in `NodeResourcesBalancedAllocation`.
pub(super) struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        // A pod that asks for nothing makes nothing more or less even.
        if pod.requests.get("cpu") == 0 && pod.requests.get("memory") == 0 {
            return 0;
        }
        let before = evenness(&node.requested, node);
        let mut requested = node.requested.clone();
        requested.add(&pod.requests);
        let after = evenness(&requested, node);
        MAX_SCORE / 2 + (MAX_SCORE / 2 + after - before) / 2
    }
}

/// [`MAX_SCORE`] when the same share of CPU and memory is in use, less the further apart they are.
fn evenness(requested: &Resources, node: &NodeInfo) -> i64 {
    let share = |name: &str| {
        let capacity = node.allocatable.get(name);
        (capacity > 0).then(|| (requested.get(name) as f64 / capacity as f64).min(1.0))
    };
    match (share("cpu"), share("memory")) {
        // The standard deviation of two numbers is half their distance.
        (Some(cpu), Some(memory)) => ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64,
        _ => MAX_SCORE,
    }
}
