//! A node's labels and name against the pod's node selector and node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

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

fn required(pod: &PodInfo, node: &NodeInfo) -> bool {
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

/// All requirements hold; a term without any matches nothing.
fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |r: &&NodeSelectorRequirement| {
        matches_requirement(r, node.labels.get(&r.key).map(String::as_str))
    };
    let field = |r: &&NodeSelectorRequirement| {
        matches_requirement(r, (r.key == "metadata.name").then_some(node.name.as_str()))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = || value.is_some_and(|value| values.iter().any(|v| v == value));
    let compare = |test: fn(i64, i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        let wanted = values.first().and_then(|v| number(v));
        matches!((value.and_then(number), wanted), (Some(a), Some(b)) if test(a, b))
    };
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}
