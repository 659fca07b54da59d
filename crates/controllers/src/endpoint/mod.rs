//! Endpoints: the older, single-object form of what stands behind a Service.
//!
//! Invariants: one object per Service that has a selector, of the same name; at most 1000 addresses; an object without
//! Service goes. Services without selector keep what others put there.
//! Upstream: `pkg/controller/endpoint`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The label that says whose object it is.
pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The controller of Endpoints.
pub struct EndpointsController;

impl Reconciler for EndpointsController {
    type Observed = Observed;

    const NAME: &'static str = "endpoint-controller";

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
