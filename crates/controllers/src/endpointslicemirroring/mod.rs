//! Endpoints that people make for a Service without selector, mirrored into EndpointSlices, which is what proxies read.
//!
//! Invariants: one slice for every family and set of ports; only slices with this controller's label are touched; what
//! must not or need not be mirrored has no slices. Upstream: `pkg/controller/endpointslicemirroring`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The value of the label that says whose slice it is.
pub(crate) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Most addresses of one subset that are mirrored.
pub(crate) const MAX_ADDRESSES: usize = 1000;

/// The controller that mirrors Endpoints.
pub struct EndpointSliceMirroringController;

impl Reconciler for EndpointSliceMirroringController {
    type Observed = Observed;

    const NAME: &'static str = "endpointslicemirroring-controller";

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
