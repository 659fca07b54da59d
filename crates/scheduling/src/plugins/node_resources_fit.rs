//! What the pod asks for must be left; nodes with more left are better.

use super::{Filter, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The plug-in `NodeResourcesFit`, strategy `LeastAllocated`.
pub(super) struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let mut reasons = Vec::new();
        let running = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if running + 1 > node.allocatable.get("pods") {
            reasons.push("Too many pods".to_owned());
        }
        for (name, amount) in &pod.requests.0 {
            let left = node.allocatable.get(name) - node.requested.get(name);
            if *amount > 0 && *amount > left {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        reasons
    }

    /// Not if the pod asks for more than the node has in all.
    fn gives_way(&self, pod: &PodInfo, node: &NodeInfo, _: &[String]) -> bool {
        let mut asked = pod.requests.0.iter();
        asked.all(|(name, amount)| *amount == 0 || *amount <= node.allocatable.get(name))
    }
}

impl Score for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn score(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let scores: Vec<i64> = ["cpu", "memory"]
            .into_iter()
            .filter(|name| node.allocatable.get(name) > 0)
            .map(|name| {
                let capacity = node.allocatable.get(name);
                let used = node.nonzero_requested.get(name) + pod.nonzero_requests.get(name);
                let left = i128::from((capacity - used).max(0));
                i64::try_from(left * i128::from(MAX_SCORE) / i128::from(capacity)).unwrap_or(0)
            })
            .collect();
        scores.iter().sum::<i64>() / i64::try_from(scores.len().max(1)).unwrap_or(1)
    }
}
