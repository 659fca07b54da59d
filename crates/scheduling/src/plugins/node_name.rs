//! A pod that names its node goes there or nowhere.

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The plug-in `NodeName`.
pub(super) struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        match pod
            .node_name
            .as_deref()
            .is_none_or(|name| name == node.name)
        {
            true => Vec::new(),
            false => vec!["node(s) didn't match the requested node name".into()],
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}
