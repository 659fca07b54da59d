//! Removes Jobs some time after they have ended: `spec.ttlSecondsAfterFinished`.
//!
//! Invariant: only a Job that has ended, and that is still the one that was looked at, is removed; its pods go with it.
//!
//! Upstream: `pkg/controller/ttlafterfinished`.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use control::{Action, Look, Plan, Propagation, Reconciler, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

/// The controller that removes Jobs which have ended.
pub struct TtlAfterFinishedController;

impl Reconciler for TtlAfterFinishedController {
    type Observed = (Arc<Job>, Timestamp);

    const NAME: &'static str = "ttl-after-finished-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Job>(|change, _| {
            let due = change.new.as_ref().filter(|job| expires_at(job).is_some());
            due.map(|job| control::Key::of(job.as_ref()))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Self::Observed> {
        Some((look.caches.of::<Job>().get(look.key)?, look.now))
    }

    fn reconcile((job, now): &Self::Observed) -> Plan {
        let Some(expires) = expires_at(job) else {
            return Plan::idle("it stays");
        };
        let left = Duration::try_from(now.duration_until(expires)).unwrap_or_default();
        if !left.is_zero() {
            return Plan {
                requeue_after: Some(left),
                because: format!("it is removed in {left:?}"),
                ..Plan::default()
            };
        }
        let meta = &job.metadata;
        Plan {
            actions: vec![Action::Delete {
                target: Target::of(job.as_ref()),
                uid: meta.uid.clone().unwrap_or_default(),
                resource_version: meta.resource_version.clone(),
                propagation: Some(Propagation::Foreground),
                grace_seconds: None,
                report: None,
            }],
            because: "its time after the end is over".to_owned(),
            ..Plan::default()
        }
    }
}

/// When a Job that has ended is to go.
fn expires_at(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let ended = conditions
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let ended = ended.last_transition_time.as_ref()?.0;
    let seconds = Duration::from_secs(seconds.max(0).unsigned_abs().into());
    Some(ended.saturating_add(seconds).unwrap_or(Timestamp::MAX))
}
