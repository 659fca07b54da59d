//! StatefulSet: pods with ordinals, each with its name, host name and claims, made and changed in order.
//!
//! - `OrderedReady`: a pod is made when all before it are available, and removed when all that stay are; one at a time.
//!   `Parallel`: all at once.
//! - A new template is rolled out from the highest ordinal down to the partition, as far as `maxUnavailable` allows; with
//!   `OnDelete` only where the user deletes.
//! - Claims are never replaced; who owns them follows the retention policy, so that the garbage collector removes them or
//!   nobody does.
//! - Nothing is done to a set that is being deleted.
//!
//! Upstream: `pkg/controller/statefulset`.

mod claims;
mod identity;
mod observe;
mod reconcile;
mod status;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The controller of StatefulSets.
pub struct StatefulSetController;

impl Reconciler for StatefulSetController {
    type Observed = Observed;

    const NAME: &'static str = "statefulset-controller";

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
