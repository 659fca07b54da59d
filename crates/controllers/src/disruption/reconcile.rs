//! The status of a budget.

use std::collections::BTreeMap;
use std::time::Duration;

use control::plan::reference;
use control::{Action, Event, EventType, Kind, Plan, StatusWrite};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::conditions;
use machinery::int_or_string::{Round, scaled};

use super::Observed;
use super::observe::Controller;
use crate::pods;

/// How long a pod that may be evicted is taken for gone although it is there.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(2 * 60);
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// Decides about one budget.
pub(super) fn reconcile(o: &Observed) -> Plan {
    if let Some(why) = &o.malformed {
        return failed(o, "NoPods", "Failed to get pods", why);
    }
    let expected = match expected(o) {
        Ok(expected) => expected,
        Err(why) => {
            let prefix = "Failed to calculate the number of expected pods";
            return failed(o, "CalculateExpectedPodCountFailed", prefix, &why);
        }
    };
    let (disrupted, overdue, recheck) = disrupted(o);
    let healthy = o.pods.iter().filter(|(pod, _)| is_healthy(pod, &disrupted));
    let healthy = count(healthy.count());
    let allowed = match expected.pods > 0 {
        true => (healthy - expected.healthy).max(0),
        false => 0,
    };
    let generation = o.budget.metadata.generation;
    let old = o.budget.status.clone().unwrap_or_default();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: old.conditions.clone(),
    };
    let (value, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    set_condition(&mut status, value, reason, "", o.now);
    let actions = events(o, &expected, &overdue);
    let because = format!(
        "{healthy} of {} pods are healthy, {} must be: {allowed} may be disrupted",
        expected.pods, expected.healthy
    );
    finish(o, status, actions, recheck, because)
}

/// The plan, idle when the status says all of it already.
fn finish(
    o: &Observed,
    status: PodDisruptionBudgetStatus,
    actions: Vec<Action>,
    requeue_after: Option<Duration>,
    because: String,
) -> Plan {
    let changed = o.budget.status.as_ref() != Some(&status);
    let mut budget = PodDisruptionBudget::clone(&o.budget);
    budget.status = Some(status);
    Plan {
        actions: if changed { actions } else { Vec::new() },
        status: changed.then(|| StatusWrite::of(&budget)),
        requeue_after,
        because,
        ..Plan::default()
    }
}

/// It cannot be worked out: nothing is allowed, whatever the rest of the status says.
fn failed(o: &Observed, reason: &'static str, prefix: &str, why: &str) -> Plan {
    let mut status = o.budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, "False", "SyncFailed", why, o.now);
    let event = event(
        o.budget.as_ref(),
        EventType::Warning,
        reason,
        format!("{prefix}: {why}"),
    );
    finish(o, status, vec![event], None, why.to_owned())
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let observed_generation = status.observed_generation;
    let all = status.conditions.get_or_insert_default();
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation,
        last_transition_time: Time(machinery::time::truncate(now)),
    };
    conditions::set(all, condition);
}

struct Expected {
    pods: i32,
    healthy: i32,
    unmanaged: bool,
}

/// How many pods there should be, and how many of them must be healthy.
fn expected(o: &Observed) -> Result<Expected, String> {
    let spec = o.budget.spec.clone().unwrap_or_default();
    if let Some(unavailable) = &spec.max_unavailable {
        let (pods, unmanaged) = scale(o)?;
        let unavailable = scaled(unavailable, pods, Round::Up)?;
        return Ok(Expected {
            pods,
            healthy: (pods - unavailable).max(0),
            unmanaged,
        });
    }
    match &spec.min_available {
        None => Ok(Expected {
            pods: 0,
            healthy: 0,
            unmanaged: false,
        }),
        Some(IntOrString::Int(healthy)) => Ok(Expected {
            pods: count(o.pods.len()),
            healthy: *healthy,
            unmanaged: false,
        }),
        Some(share) => {
            let (pods, unmanaged) = scale(o)?;
            let healthy = scaled(share, pods, Round::Up)?;
            Ok(Expected {
                pods,
                healthy,
                unmanaged,
            })
        }
    }
}

/// The replicas that all controllers of the pods want, and whether there are pods without any.
fn scale(o: &Observed) -> Result<(i32, bool), String> {
    let mut controllers: BTreeMap<&str, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for (pod, controller) in &o.pods {
        match controller {
            Controller::None => unmanaged = true,
            Controller::Scaled { uid, replicas } => {
                controllers.insert(uid, *replicas);
            }
            Controller::Missing => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!("found no controllers for pod {name:?}"));
            }
            Controller::Unscaled(why) => return Err(why.clone()),
        }
    }
    Ok((controllers.values().sum(), unmanaged))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn is_healthy(pod: &Pod, disrupted: &BTreeMap<String, Time>) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    !pods::is_deleting(pod) && !disrupted.contains_key(name) && pods::is_ready(pod)
}

/// The pods that were let go but are there still; those that should have gone; when to look again.
fn disrupted(o: &Observed) -> (BTreeMap<String, Time>, Vec<&Pod>, Option<Duration>) {
    let status = o.budget.status.as_ref();
    let known = status
        .and_then(|s| s.disrupted_pods.clone())
        .unwrap_or_default();
    let (mut waiting, mut overdue, mut recheck) = (BTreeMap::new(), Vec::new(), None);
    for (pod, _) in &o.pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let Some(since) = known.get(name).filter(|_| !pods::is_deleting(pod)) else {
            continue;
        };
        let left = DELETION_TIMEOUT - o.now.duration_since(since.0);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                waiting.insert(name.to_owned(), since.clone());
                recheck = Some(recheck.map_or(left, |soonest: Duration| soonest.min(left)));
            }
            _ => overdue.push(pod.as_ref()),
        }
    }
    (waiting, overdue, recheck)
}

fn events(o: &Observed, expected: &Expected, overdue: &[&Pod]) -> Vec<Action> {
    let budget = o.budget.as_ref();
    let mut events = Vec::new();
    if o.pods.is_empty() {
        let message = "No matching pods found".to_owned();
        events.push(event(budget, EventType::Normal, "NoPods", message));
    }
    if expected.unmanaged {
        let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
            selector_text(selector)
        );
        events.push(event(budget, EventType::Warning, "UnmanagedPods", message));
    }
    for pod in overdue {
        // Upstream names the namespace twice.
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let message =
            format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
        events.push(event(*pod, EventType::Warning, "NotDeleted", message));
    }
    events
}

/// A selector as upstream's `%v` prints it.
fn selector_text(
    selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|e| {
            let values = e.values.as_deref().unwrap_or_default().join(" ");
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
                e.key, e.operator
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn event<K: Kind>(about: &K, event_type: EventType, reason: &str, message: String) -> Action {
    Action::Event(Event {
        about: reference(about),
        event_type,
        reason: reason.to_owned(),
        message,
    })
}
