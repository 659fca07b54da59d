//! DaemonSet: one pod on every node that fits.
//!
//! - Pods are bound by the scheduler; node affinity by the node's name leaves it no choice. They tolerate what comes over
//!   a node by itself, and that it is cordoned.
//! - A node that no longer fits loses its pod, unless only new pods are kept away from it.
//! - A new template is rolled out as far as `maxUnavailable` allows, or with `maxSurge` by a second pod beside the old one;
//!   with `OnDelete` only where the user deletes.
//! - A pod that has failed is removed and made again; one that failed soon after it was made only after a while.
//!
//! Upstream: `pkg/controller/daemon`.

mod fit;
mod observe;
mod pod;
mod reconcile;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The controller of DaemonSets.
pub struct DaemonSetController;

impl Reconciler for DaemonSetController {
    type Observed = Observed;

    const NAME: &'static str = "daemonset-controller";

    const IDENTITY: &'static str = "daemon-set-controller";

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
