//! Nodes that have fallen silent, and the taints that follow from conditions.
//!
//! - A node whose lease has not been renewed for [`GRACE`] is unknown, after the API has confirmed that the lease is old.
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

pub use observe::{Observed, Zone};

use std::time::Duration;

use control::{Look, Plan, Reconciler, Wake};

/// How long a node may be silent (upstream's `--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);
/// How long a new node may take to tell its status for the first time.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// The controller of the nodes' health.
pub struct NodeLifecycleController;

impl Reconciler for NodeLifecycleController {
    type Observed = Observed;

    const NAME: &'static str = "node-controller";

    fn wake(on: &mut Wake<'_>) {
        observe::wake(on);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
