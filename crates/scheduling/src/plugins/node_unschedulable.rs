//! Cordoned nodes take no pods, unless they tolerate the taint that stands for it.

use k8s_openapi::api::core::v1::Taint;

use super::Filter;
use super::taint_toleration::tolerates;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The plug-in `NodeUnschedulable`.
pub(super) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        match node.unschedulable && !tolerates(pod, &taint) {
            true => vec!["node(s) were unschedulable".into()],
            false => Vec::new(),
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}
