//! Taints keep pods away that do not tolerate them; fewer untolerated `PreferNoSchedule` taints are better.

use k8s_openapi::api::core::v1::Taint;
use machinery::placement;

use super::{Filter, Score, normalize};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The plug-in `TaintToleration`.
pub(super) struct TaintToleration;

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        match is_kept_away(pod, node) {
            true => vec!["node(s) had untolerated taint(s)".into()],
            false => Vec::new(),
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}

impl Score for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn score(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = node
            .taints
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule");
        let untolerated = soft.filter(|taint| !tolerates(pod, taint)).count();
        i64::try_from(untolerated).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        normalize(scores, true)
    }
}

/// A taint of the node keeps the pod away.
pub(super) fn is_kept_away(pod: &PodInfo, node: &NodeInfo) -> bool {
    let taints = node.taints.iter();
    let mut hard = taints.filter(|t| matches!(&*t.effect, "NoSchedule" | "NoExecute"));
    hard.any(|taint| !tolerates(pod, taint))
}

/// One of the pod's tolerations covers the taint.
pub(super) fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    pod.tolerations
        .iter()
        .any(|toleration| placement::tolerates(toleration, taint))
}
