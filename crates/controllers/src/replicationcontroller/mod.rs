//! ReplicationController: the elder brother of ReplicaSet, with a plain map as selector.
//!
//! Invariants and work as in [`crate::replicas`]; here stands the kind.
//! Upstream: `pkg/controller/replication`.

mod observe;
#[cfg(test)]
mod tests;

use control::{Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};

use crate::ownership::keys_of_dependent;
use crate::replicas::{self, Observed};

/// The controller of ReplicationControllers.
pub struct ReplicationControllerController;

impl Reconciler for ReplicationControllerController {
    type Observed = Observed<ReplicationController>;

    const NAME: &'static str = "replication-controller";

    fn wake(on: &mut Wake<'_>) {
        crate::ownership::index_pods(on);
        on.on_root::<ReplicationController>()
            .on::<Pod>(keys_of_dependent::<ReplicationController, Pod>);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Self::Observed> {
        replicas::observe(look, observe::related)
    }

    fn reconcile(o: &Self::Observed) -> Plan {
        replicas::reconcile(o)
    }
}
