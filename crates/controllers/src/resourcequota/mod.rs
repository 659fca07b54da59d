//! ResourceQuotas: how much of each is used, counted from what is there.
//!
//! Admission adds to the status before an object exists, so what the caches count may be less for a moment: more is
//! written at once, less only when it has stayed so for half a second. Every object that comes, goes or changes what it
//! uses wakes the quotas of its namespace, hence no periodic recount.
//! What objects use is told by `api::quota`. Upstream: `pkg/controller/resourcequota`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The controller of quotas.
pub struct ResourceQuotaController;

impl Reconciler for ResourceQuotaController {
    type Observed = Observed;

    const NAME: &'static str = "resourcequota-controller";

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
