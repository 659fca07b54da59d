//! A port of the node is given to one pod only.

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::{HostPort, PodInfo};
use crate::snapshot::Snapshot;

/// The plug-in `NodePorts`.
pub(super) struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, _: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let taken = |wanted: &HostPort| node.host_ports.iter().any(|used| conflict(wanted, used));
        match pod.host_ports.iter().any(taken) {
            true => vec!["node(s) didn't have free ports for the requested pod ports".into()],
            false => Vec::new(),
        }
    }
}

/// Same protocol and number, and addresses that are equal or of which one stands for all.
fn conflict(a: &HostPort, b: &HostPort) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    (&a.1, a.2) == (&b.1, b.2) && (a.0 == b.0 || any(&a.0) || any(&b.0))
}
