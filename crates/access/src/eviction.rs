//! Whether a pod may be evicted: what its disruption budget says, and what of the budget an eviction takes.
//!
//! Behaviour: `pkg/registry/core/pod/storage/eviction.go`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use machinery::labels::Selector;
use machinery::{ApiError, Object};

/// The most pods that a budget keeps in mind as evicted but not seen gone.
const DISRUPTED_MAX: usize = 2000;
/// The type of a budget's condition.
pub const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
/// Why the condition says nothing reliable.
pub const SYNC_FAILED: &str = "SyncFailed";
const CAUSE: &str = "DisruptionBudget";
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const RETRY_SECONDS: u32 = 10;

/// What to do with a pod that is to be evicted.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// No budget stands in the way. `bound`: only in the version that was looked at, for it may become healthy.
    Evict {
        /// Delete this version only.
        bound: bool,
        /// The budget that was asked, for the answer when the pod has changed.
        budget: String,
    },
    /// The budget has room: its status is to be written before the pod is deleted.
    Spend(Box<PodDisruptionBudget>),
    /// More than one budget covers the pod, which is not supported.
    Ambiguous,
}

/// Whether the pod has no part in what budgets protect: it has ended, has not begun, or is leaving.
pub fn is_unprotected(pod: &Pod) -> bool {
    phase(pod) == "Pending" || is_over(pod)
}

/// Whether the pod has ended or is leaving.
fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some()
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What to do with this pod, given the budgets of its namespace.
///
/// # Errors
/// The budget has no room: 429, with the cause that clients look for.
pub fn decide(pod: &Pod, budgets: &[Arc<Object>], now: Timestamp) -> Result<Verdict, ApiError> {
    if is_unprotected(pod) {
        return Ok(evict(!is_over(pod), ""));
    }
    let budgets = budgets
        .iter()
        .filter_map(|b| b.view::<PodDisruptionBudget>().ok());
    let covering: Vec<PodDisruptionBudget> = budgets.filter(|b| covers(b, pod)).collect();
    match <[_; 1]>::try_from(covering) {
        Ok([budget]) => ask(pod, budget, now),
        Err(none) if none.is_empty() => Ok(evict(false, "")),
        Err(_) => Ok(Verdict::Ambiguous),
    }
}

fn evict(bound: bool, budget: &str) -> Verdict {
    Verdict::Evict {
        bound,
        budget: budget.to_owned(),
    }
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    let selector = Selector::from_optional(selector);
    selector.is_ok_and(|s| s.matches_map(pod.metadata.labels.as_ref()))
}

fn ask(pod: &Pod, budget: PodDisruptionBudget, now: Timestamp) -> Result<Verdict, ApiError> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let status = budget.status.clone().unwrap_or_default();
    if !is_ready(pod) {
        let policy = budget
            .spec
            .as_ref()
            .and_then(|s| s.unhealthy_pod_eviction_policy.as_deref());
        let desired = status.desired_healthy.unwrap_or(0);
        let enough = desired > 0 && status.current_healthy.unwrap_or(0) >= desired;
        if policy == Some("AlwaysAllow") || enough {
            return Ok(evict(true, &name));
        }
    }
    spend(pod, budget, &name, status, now)
}

/// Takes one disruption out of the budget.
fn spend(
    pod: &Pod,
    mut budget: PodDisruptionBudget,
    name: &str,
    mut status: PodDisruptionBudgetStatus,
    now: Timestamp,
) -> Result<Verdict, ApiError> {
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Err(still_processed(name));
    }
    let not_now = format!("The disruption budget {name} does not allow evicting pods currently");
    let forbidden = |why: &str, detail: &str| {
        ApiError::forbidden("policy", "poddisruptionbudget", name, why)
            .caused_by(CAUSE, format!("{not_now}: {detail}"))
    };
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(forbidden(why, why));
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    if disrupted.len() > DISRUPTED_MAX {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let why = no_room(name, &not_now, &status);
        return Err(ApiError::too_many_requests(REFUSAL, 0).caused_by(CAUSE, why));
    }
    let time = Time(machinery::time::truncate(now));
    disrupted.insert(pod.metadata.name.clone().unwrap_or_default(), time);
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        let generation = status.observed_generation;
        let conditions = status.conditions.get_or_insert_default();
        set_allowed(conditions, false, generation, now);
    }
    budget.status = Some(status);
    Ok(Verdict::Spend(Box::new(budget)))
}

fn no_room(name: &str, not_now: &str, status: &PodDisruptionBudgetStatus) -> String {
    let conditions = status.conditions.iter().flatten();
    let condition = conditions
        .into_iter()
        .find(|c| c.type_ == DISRUPTION_ALLOWED)
        .filter(|c| c.status == "False" && !c.message.is_empty());
    let desired = status.desired_healthy.unwrap_or(0);
    let current = status.current_healthy.unwrap_or(0);
    match condition {
        // What it counted before is not to be trusted then.
        Some(c) if c.reason == SYNC_FAILED => {
            format!("{not_now} because it failed sync: {}", c.message)
        }
        _ if current <= desired => format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ),
        Some(c) => format!("{not_now} ({}): {}", c.reason, c.message),
        None => not_now.to_owned(),
    }
}

/// The refusal of a budget that is not up to date, or whose pod changed meanwhile.
pub fn still_processed(budget: &str) -> ApiError {
    let cause = format!("The disruption budget {budget} is still being processed by the server.");
    ApiError::too_many_requests(REFUSAL, RETRY_SECONDS).caused_by(CAUSE, cause)
}

/// Sets the condition that tells whether there is room.
pub fn set_allowed(
    conditions: &mut Vec<Condition>,
    allowed: bool,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let (status, reason) = match allowed {
        true => ("True", "SufficientPods"),
        false => ("False", "InsufficientPods"),
    };
    machinery::conditions::set(
        conditions,
        Condition {
            type_: DISRUPTION_ALLOWED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation,
            last_transition_time: Time(machinery::time::truncate(now)),
        },
    );
}

#[cfg(test)]
mod tests;
