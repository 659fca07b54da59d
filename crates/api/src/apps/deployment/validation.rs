//! What a Deployment must look like, and what may change.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::{ErrorList, Path};

use super::selector;
use crate::check::{self, ErrorListExt};
use crate::view::OrEmpty;
use crate::workload::{self, Counts};

pub(super) fn spec(errors: &mut ErrorList, new: &Deployment, old: Option<&Deployment>) {
    let spec = &new.spec;
    let path = Path::new("spec");
    errors.not_negative(
        &path.child("replicas"),
        i64::from(spec.replicas.unwrap_or(0)),
    );
    let before = old.and_then(|o| o.spec.template.spec.as_ref());
    selector::selector_and_template(errors, &path, &spec.selector, &spec.template, before);
    strategy(errors, &path.child("strategy"), spec.strategy.as_ref());
    let wait = spec.min_ready_seconds.unwrap_or(0);
    errors.not_negative(&path.child("minReadySeconds"), i64::from(wait));
    if let Some(limit) = spec.revision_history_limit {
        errors.not_negative(&path.child("revisionHistoryLimit"), i64::from(limit));
    }
    if let Some(deadline) = spec.progress_deadline_seconds {
        let at = path.child("progressDeadlineSeconds");
        errors.not_negative(&at, i64::from(deadline));
        if deadline <= wait {
            errors.invalid(&at, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(errors: &mut ErrorList, path: &Path, strategy: Option<&DeploymentStrategy>) {
    let empty = DeploymentStrategy::default();
    let strategy = strategy.unwrap_or(&empty);
    let at = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(
                &at,
                "may not be specified when strategy `type` is 'Recreate'",
            );
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.required(&at, "this should be defaulted and never be nil");
        }
        ("RollingUpdate", Some(rolling)) => {
            let zero = IntOrString::Int(0);
            let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
            let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
            let path = at.child("maxUnavailable");
            check::positive_int_or_percent(errors, &path, unavailable);
            check::positive_int_or_percent(errors, &at.child("maxSurge"), surge);
            if check::amount(unavailable) == 0 && check::amount(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&path, check::json(unavailable), detail);
            }
            check::at_most_100_percent(errors, &path, unavailable);
        }
        _ => {
            errors.not_supported(path, check::json(strategy), &["Recreate", "RollingUpdate"]);
        }
    }
}

pub(super) fn update(new: &Deployment, old: &Deployment) -> ErrorList {
    let mut errors = ErrorList::new();
    spec(&mut errors, new, Some(old));
    selector::unchanged(&mut errors, &new.spec.selector, &old.spec.selector);
    errors
}

pub(super) fn status(new: &Deployment, old: &Deployment) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = new.status.clone().unwrap_or_default();
    let counts = Counts {
        replicas: status.replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        observed_generation: status.observed_generation.unwrap_or(0),
        other: ("updatedReplicas", status.updated_replicas.unwrap_or(0)),
        terminating: status.terminating_replicas,
    };
    workload::counts(&mut errors, &counts);
    let path = Path::new("status");
    let unavailable = i64::from(status.unavailable_replicas.unwrap_or(0));
    errors.not_negative(&path.child("unavailableReplicas"), unavailable);
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    workload::collisions(&mut errors, status.collision_count, before);
    errors
}
