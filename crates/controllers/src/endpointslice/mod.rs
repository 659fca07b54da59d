//! EndpointSlices: what stands behind a Service, in slices of at most a hundred end points.
//!
//! Invariants: only slices that carry this controller's label are touched; an end point stands in one slice; a change
//! touches as few slices as possible; a Service with a selector always has at least one slice per family.
//! Upstream: `k8s.io/endpointslice` (KEP-752), `pkg/controller/endpointslice`.

mod endpoint;
mod observe;
mod pack;
mod reconcile;
#[cfg(test)]
mod tests;

pub(crate) use endpoint::port_key;
pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The label that says whose slice it is, and our value of it.
pub(crate) const MANAGED_BY: (&str, &str) = (
    "endpointslice.kubernetes.io/managed-by",
    "endpointslice-controller.k8s.io",
);
/// The label that names the Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Most end points in one slice.
pub(crate) const MAX_ENDPOINTS: usize = 100;

/// The controller of EndpointSlices.
pub struct EndpointSliceController;

impl Reconciler for EndpointSliceController {
    type Observed = Observed;

    const NAME: &'static str = "endpointslice-controller";

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
