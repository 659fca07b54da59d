//! A node's labels and name against the pod's node selector and node affinity.

use k8s_openapi::api::core::v1::NodeSelectorTerm;
use machinery::placement;

use super::{Filter, Score, normalize};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The plug-in `NodeAffinity`.
pub(super) struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        match required(pod, node) {
            true => Vec::new(),
            false => vec!["node(s) didn't match Pod's node affinity/selector".into()],
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}

impl Score for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn score(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let affinity = pod.affinity.node_affinity.as_ref();
        let preferred = affinity.into_iter().flat_map(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        });
        let matching = preferred.filter(|term| matches_term(&term.preference, node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        normalize(scores, false)
    }
}

/// Whether the pod may run on the node, by its selector and its required affinity.
pub(super) fn required(pod: &PodInfo, node: &NodeInfo) -> bool {
    let selected = pod
        .node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let affinity = pod.affinity.node_affinity.as_ref();
    let required = affinity
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .map(|selector| {
            selector
                .node_selector_terms
                .iter()
                .any(|term| matches_term(term, node))
        });
    selected && required.unwrap_or(true)
}

fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    placement::matches_term(term, &node.name, &node.labels)
}
