//! ReplicaSet: keeps `spec.replicas` pods of its template alive.
//!
//! Invariants: only pods that it controls or may adopt are touched; a deletion never takes more than the surplus.
//! The work is in [`crate::replicas`]; here stand the kind and its siblings.
//! Upstream: `pkg/controller/replicaset`.

mod observe;
#[cfg(test)]
mod tests;

use control::{Look, Plan, Reconciler, Wake};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::ownership::keys_of_dependent;
use crate::replicas::{self, Observed};

/// The controller of ReplicaSets.
pub struct ReplicaSetController;

impl Reconciler for ReplicaSetController {
    type Observed = Observed<ReplicaSet>;

    const NAME: &'static str = "replicaset-controller";

    fn wake(on: &mut Wake<'_>) {
        crate::ownership::index_pods(on);
        on.on_root::<ReplicaSet>()
            .on::<Pod>(keys_of_dependent::<ReplicaSet, Pod>)
            .index::<ReplicaSet>(observe::SIBLINGS, crate::ownership::controller_uid);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Self::Observed> {
        replicas::observe(look, observe::related)
    }

    fn reconcile(o: &Self::Observed) -> Plan {
        replicas::reconcile(o)
    }
}
