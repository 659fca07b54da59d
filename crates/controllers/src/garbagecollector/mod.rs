//! Garbage collection: objects whose owners are all gone go as well.
//!
//! - An owner counts as gone only after a watch has told its end or the API itself has said so: that the cache does not
//!   know it means nothing.
//! - Foreground: the owner stays until the dependents that block it are gone. Orphan: the dependents lose the reference
//!   first. Background: dependents go after the owner.
//! - An object with one living owner is never deleted; it only loses references to the gone ones.
//! - Every deletion is bound to the UID and the version that the decision saw.
//!
//! The item is one object of any kind, by UID. Upstream: `pkg/controller/garbagecollector`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use observe::{Observed, OwnerState};

use control::{Look, Plan, Reconciler, Wake};

/// Finalizer of an owner that waits for its dependents to go.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents shall stay.
pub(crate) const ORPHAN: &str = "orphan";

/// The garbage collector.
pub struct GarbageCollector;

impl Reconciler for GarbageCollector {
    type Observed = Observed;

    const NAME: &'static str = "garbage-collector-controller";
    const IDENTITY: &'static str = "generic-garbage-collector";

    fn wake(on: &mut Wake<'_>) {
        on.on_meta(observe::keys);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
