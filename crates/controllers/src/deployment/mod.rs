//! Deployment: rolls a template out through ReplicaSets, and keeps the old ones as history.
//!
//! - One ReplicaSet per template, named after the template's hash; the sum of all never exceeds `replicas + maxSurge`,
//!   and availability never falls below `replicas - maxUnavailable` by our doing.
//! - A change of `replicas` in the middle of a rollout is spread over all ReplicaSets in proportion.
//! - Revisions only grow; a rollback is a template that has been there before.
//! - Progress is told in conditions; a rollout that stands still longer than its deadline is reported, not stopped.
//!
//! Upstream: `pkg/controller/deployment`.

mod draft;
mod observe;
mod reconcile;
mod revision;
mod sizes;
mod status;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The label that tells the ReplicaSets of one Deployment apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// The controller of Deployments.
pub struct DeploymentController;

impl Reconciler for DeploymentController {
    type Observed = Observed;

    const NAME: &'static str = "deployment-controller";

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
