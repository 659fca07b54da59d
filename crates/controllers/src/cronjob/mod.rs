//! CronJob: makes a Job whenever the schedule says so.
//!
//! - A Job is named after the minute it is due, so that no time gets two of them, whatever happens in between.
//! - Of several times that were missed only the last one counts; one that is later than the starting deadline is told and
//!   left out.
//! - Jobs that still run forbid the next one, go for it, or run beside it, as `concurrencyPolicy` says.
//! - Jobs that have ended are kept as far as the history limits go.
//!
//! Upstream: `pkg/controller/cronjob`.

mod observe;
mod reconcile;
#[cfg(test)]
mod tests;
mod times;

pub use observe::Observed;

use control::{Look, Plan, Reconciler, Wake};

/// The controller of CronJobs.
pub struct CronJobController;

impl Reconciler for CronJobController {
    type Observed = Observed;

    const NAME: &'static str = "cronjob-controller";

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
