//! Job: pods until so many have succeeded, or the Job has failed.
//!
//! - A pod counts once. It carries a finalizer until it is counted: its UID is written into
//!   `status.uncountedTerminatedPods`, then the finalizer goes, then the counter grows and the UID goes. Pods of an indexed
//!   Job that succeed are counted by their index instead.
//! - The reason to end (`SuccessCriteriaMet`, `FailureTarget`) is written first; `Complete` or `Failed` follows when no pod
//!   is left that runs or is uncounted.
//! - After failures new pods wait: ten seconds, twice as long each time, at most ten minutes. What has failed is read off
//!   the pods, so a restart forgets nothing.
//! - A Job that somebody else manages is not touched.
//!
//! Upstream: `pkg/controller/job`.

mod backoff;
mod ending;
mod failure_policy;
mod indexes;
mod observe;
mod orphans;
mod pods_of_job;
mod reconcile;
mod success_policy;
#[cfg(test)]
mod tests;
mod tracking;

pub use observe::Observed;
pub use orphans::OrphanedPods;

use control::{Look, Plan, Reconciler, Wake};

/// Keeps a pod until it is counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// The controller of Jobs.
pub struct JobController;

impl Reconciler for JobController {
    type Observed = Observed;

    const NAME: &'static str = "job-controller";

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
