//! Addresses for Services of type `LoadBalancer`: the cloud that clusters on their own machines do not have.
//!
//! Two ways, told by [`Addresses`]. From a *pool*, every Service gets an address of its own, and the annotation
//! [`ANNOUNCED_BY`] says which node answers for it; that node's service proxy does so. Without a pool, a Service gets the
//! addresses of the nodes themselves, unless an older one has the same port.
//!
//! Invariants: two Services never share an address of the pool, nor a port of the nodes; what a Service has it keeps as
//! long as it may; a Service with a `loadBalancerClass` is somebody else's; one that has an address carries the finalizer
//! [`FINALIZER`] and loses both together. All Services are one item, so that addresses are given out one after the other.
//!
//! Identity, events and finalizer are those of the service controller of clouds
//! (`k8s.io/cloud-provider/controllers/service`).

mod addresses;
mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use control::{Look, Plan, Reconciler, Wake};

pub use observe::{Balanced, Observed};

/// The annotation that says which node answers for the addresses of the Service.
pub const ANNOUNCED_BY: &str = "oxikube.io/announced-by";
/// Kept on a Service as long as it has an address.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Each Service gets one of these.
    Pool(Vec<RangeInclusive<Ipv4Addr>>),
    /// Each Service gets those of the nodes.
    Nodes {
        /// Ports that the nodes need themselves.
        reserved: Vec<u16>,
    },
}

/// The controller of load balancers.
pub struct LoadBalancerController {
    /// Where addresses come from.
    pub addresses: Addresses,
}

impl Reconciler for LoadBalancerController {
    type Observed = Observed;

    const NAME: &'static str = "service-controller";

    fn wake(on: &mut Wake<'_>) {
        observe::wake(on);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        Some(observe::observe(look, &self.addresses))
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}
