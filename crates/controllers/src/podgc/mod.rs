//! Pods that nobody else removes: those of nodes that are gone or out of service, those that are leaving but were never
//! bound, and the oldest of too many that have ended.
//!
//! - A node counts as gone after 40 seconds and a live look.
//! - A pod that has not ended is marked failed before it is removed, so that its owner hears of it.
//!
//! Upstream: `pkg/controller/podgc`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// Ended pods that are kept, as upstream's `--terminated-pod-gc-threshold`.
pub const TERMINATED_PODS: usize = 12_500;

/// The collector of pods.
pub struct PodGarbageCollector {
    /// Ended pods that are kept; 0 keeps all.
    pub terminated_pods: usize,
}

impl Reconciler for PodGarbageCollector {
    type Observed = Observed;

    const NAME: &'static str = "pod-garbage-collector-controller";
    const IDENTITY: &'static str = "pod-garbage-collector";

    fn wake(on: &mut Wake<'_>) {
        observe::wake(on);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look, self.terminated_pods)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
