//! The end of namespaces: all content goes, then the namespace.
//!
//! - Pods first: what runs must not outlive the policies and quotas around it (KEP-5080).
//! - A namespace is finalized only after every kind that discovery knows has been listed live and found empty.
//! - What is waited for stands in the conditions.
//!
//! Upstream: `pkg/controller/namespace`.

mod observe;
mod reconcile;
mod status;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::Namespace;

/// The finalizer in `spec.finalizers` that this controller serves.
pub(crate) const FINALIZER: &str = "kubernetes";

/// The controller of namespaces.
pub struct NamespaceController;

impl Reconciler for NamespaceController {
    type Observed = Observed;

    const NAME: &'static str = "namespace-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<Namespace>().on_meta(observe::keys);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look)
    }

    fn reconcile(o: &Observed) -> Plan {
        reconcile::reconcile(o)
    }
}

/// Whether things may be made in it.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}
