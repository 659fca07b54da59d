//! PodDisruptionBudgets: how many pods of each may be evicted now; and pods that were condemned but stayed.
//!
//! - How many pods are expected is the sum of the wanted replicas of all controllers of the pods.
//! - A pod that the API server let somebody evict counts as gone for two minutes, then it is forgotten.
//! - When the budget cannot be worked out, it allows nothing and says why.
//!
//! Upstream: `pkg/controller/disruption`. An event about the pods of a budget is told with a change of its status only.

mod observe;
mod reconcile;
mod stale;
#[cfg(test)]
mod tests;

pub use observe::Observed;
pub use stale::StaleDisruptions;

use control::{Look, Plan, Reconciler, Wake};

/// The controller of disruption budgets.
pub struct DisruptionController;

impl Reconciler for DisruptionController {
    type Observed = Observed;

    const NAME: &'static str = "disruption-controller";

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
