//! What ReplicaSets and ReplicationControllers have in common: keeping a number of pods of one template alive.
//!
//! - Pods that match and have no controller are adopted after a live look at the owner; owned pods that no longer match
//!   are let go.
//! - At most [`BURST`] pods are made or removed at once; the driver starts creations slowly.
//! - Which pods go first: [`crate::pods::first_to_go`].
//!
//! Behaviour: `pkg/controller/replicaset/replica_set.go`.

mod decide;
mod observe;
mod status;

pub use decide::{Counts, Decision, ReplicaFailure, decide};
pub use observe::{Observed, observe};
pub use status::reconcile;

use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::ownership::Claimant;

/// Most pods that one decision creates or deletes.
pub const BURST: usize = 500;

/// The view of an owner of replicas.
pub trait Replicated: Claimant {
    /// The status counts pods on their way out.
    const TELLS_TERMINATING: bool;
    /// How many pods there shall be.
    fn replicas(&self) -> i32;
    /// How long a pod must be ready before it counts as available.
    fn min_ready_seconds(&self) -> i32;
    /// What the pods look like.
    fn template(&self) -> Option<&PodTemplateSpec>;
}

/// As the API writes numbers that are left out when they are zero.
pub(crate) fn nonzero(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
