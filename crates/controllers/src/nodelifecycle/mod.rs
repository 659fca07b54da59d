//! Nodes that have fallen silent, and the taints that follow from conditions.
//!
//! - A node whose lease has not been renewed for `node_monitor_grace_period` is unknown, after the API has confirmed that the lease is old.
//!   Time is counted from the arrival of renewals here, so clocks need not agree.
//! - Conditions become NoSchedule taints; a node that is not ready becomes NoExecute as well, as long as some other node
//!   is ready: when nothing is ready it is the control plane that is cut off.
//! - Pods of unknown nodes are not ready.
//!
//! Timers exist only per node and only fire when renewals stay away. Upstream: `pkg/controller/nodelifecycle`.

mod observe;
mod reconcile;
mod taints;
#[cfg(test)]
mod tests;

pub use observe::{Known, Observed, Zone};

use std::time::Duration;

use control::{Look, Plan, Reconciler, Wake};

/// What can be told to the controller; the flags of the same names as upstream's, and their defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How long a node may be silent.
    pub node_monitor_grace_period: Duration,
    /// How long a new node may take to tell its status for the first time.
    pub node_startup_grace_period: Duration,
    /// Nodes a second of one zone whose pods are driven out.
    pub node_eviction_rate: f64,
    /// The same when much of a large zone is down.
    pub secondary_node_eviction_rate: f64,
    /// The part of a zone's nodes from which on much of it is down.
    pub unhealthy_zone_threshold: f64,
    /// Zones up to this size are small: when much of one is down, nobody is driven out.
    pub large_cluster_size_threshold: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            unhealthy_zone_threshold: 0.55,
            large_cluster_size_threshold: 50,
        }
    }
}

/// The controller of the nodes' health.
#[derive(Default)]
pub struct NodeLifecycleController {
    /// Times and rates.
    pub options: Options,
}

impl Reconciler for NodeLifecycleController {
    type Observed = Observed;

    const NAME: &'static str = "node-controller";

    fn wake(on: &mut Wake<'_>) {
        observe::wake(on);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look, self.options)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
