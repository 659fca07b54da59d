//! Whether a Job is to end, and why.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::failure_policy::{Meaning, meaning};
use super::indexes::Indexes;
use super::pods_of_job::is_failed;
use super::success_policy;
use crate::pods;

/// The reason to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Well or badly.
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Ending {
    pub(super) fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            success,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// The condition that announces it.
    pub(super) const fn target(&self) -> &'static str {
        if self.success {
            "SuccessCriteriaMet"
        } else {
            "FailureTarget"
        }
    }

    /// The condition that seals it.
    pub(super) const fn terminal(&self) -> &'static str {
        if self.success { "Complete" } else { "Failed" }
    }
}

/// One condition, if it is true.
pub(super) fn find<'a>(status: &'a JobStatus, name: &str) -> Option<&'a JobCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|c| c.type_ == name && c.status == "True")
}

/// A condition that is true or false from now on.
pub(super) fn condition(
    name: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    let now = Time(machinery::time::truncate(now));
    JobCondition {
        type_: name.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

/// What was decided before and told in the status.
pub(super) fn announced(status: &JobStatus) -> Option<Ending> {
    let of = |success: bool, name: &str| {
        find(status, name).map(|c| {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            Ending::new(success, &text(&c.reason), text(&c.message))
        })
    };
    of(true, "SuccessCriteriaMet").or_else(|| of(false, "FailureTarget"))
}

/// Whether the Job has failed, with so many failures.
pub(super) fn failure(
    spec: &JobSpec,
    all: &[Arc<Pod>],
    failed: i64,
    deadline: Option<Duration>,
) -> Option<Ending> {
    let mut lost = all.iter().filter(|p| is_failed(p, spec));
    let fatal = lost.find_map(|pod| match meaning(spec, pod) {
        Meaning::FailsJob(why) => Some(why),
        _ => None,
    });
    if let Some(why) = fatal {
        return Some(Ending::new(false, "PodFailurePolicy", why));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if failed > i64::from(limit) || too_many_restarts(spec, all, limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(Ending::new(false, "BackoffLimitExceeded", message));
    }
    deadline.filter(Duration::is_zero).map(|_| {
        let message = "Job was active longer than specified deadline";
        Ending::new(false, "DeadlineExceeded", message)
    })
}

/// Containers that are started again in their pod count as well.
fn too_many_restarts(spec: &JobSpec, all: &[Arc<Pod>], limit: i32) -> bool {
    let template = spec.template.spec.as_ref();
    if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let alive = all
        .iter()
        .filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
    let restarts: i64 = alive
        .filter_map(|p| p.status.as_ref())
        .flat_map(|s| {
            let init = s.init_container_statuses.iter().flatten();
            init.chain(s.container_statuses.iter().flatten())
        })
        .map(|c| i64::from(c.restart_count))
        .sum();
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= i64::from(limit)
    }
}

/// Whether indexes decide about the Job.
pub(super) fn by_indexes(spec: &JobSpec, indexes: &Indexes) -> Option<Ending> {
    if let Some(failed) = indexes.failed.as_ref().filter(|f| !f.is_empty()) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let most = spec.max_failed_indexes.map(i64::from);
        if most.is_some_and(|most| count(failed.len()) > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Ending::new(false, "MaxFailedIndexesExceeded", message));
        }
        let settled = count(failed.len()) + count(indexes.succeeded.len());
        if settled >= i64::from(spec.completions.unwrap_or(0)) {
            return Some(Ending::new(
                false,
                "FailedIndexes",
                "Job has failed indexes",
            ));
        }
    }
    let met = success_policy::met(spec, &indexes.succeeded)?;
    Some(Ending::new(true, "SuccessPolicy", met))
}
