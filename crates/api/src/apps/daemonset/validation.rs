//! What a DaemonSet must look like, and what may change.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::Selector;
use machinery::{ErrorList, Path};

use super::selector;
use crate::check::{self, ErrorListExt};
use crate::view::OrEmpty;
use crate::workload;

pub(super) fn spec(errors: &mut ErrorList, new: &DaemonSet, old: Option<&DaemonSet>) {
    let spec = &new.spec;
    let path = Path::new("spec");
    let at = path.child("selector");
    check::label_selector(errors, &at, Some(&spec.selector));
    // The typed view has no way to be absent; a selector that says nothing at all was not given.
    let absent = spec.selector == LabelSelector::default();
    if let Ok(compiled) = Selector::from_label_selector(&spec.selector)
        && (absent || !compiled.matches_map(workload::template_labels(&spec.template)))
    {
        workload::selector_mismatch(errors, &path.child("template"), &spec.template);
    }
    if !absent && check::is_empty_selector(&spec.selector) {
        let shown = check::prune(check::json(&spec.selector));
        errors.invalid(&at, shown, "empty selector is invalid for daemonset");
    }
    let before = old.and_then(|o| o.spec.template.spec.as_ref());
    let at = path.child("template");
    workload::template(errors, &at, "DaemonSet", &spec.template, before);
    let wait = spec.min_ready_seconds.unwrap_or(0);
    errors.not_negative(&path.child("minReadySeconds"), i64::from(wait));
    let at = path.child("updateStrategy");
    strategy(errors, &at, spec.update_strategy.as_ref());
    let limit = spec.revision_history_limit.unwrap_or(0);
    errors.not_negative(&path.child("revisionHistoryLimit"), i64::from(limit));
}

fn strategy(errors: &mut ErrorList, path: &Path, strategy: Option<&DaemonSetUpdateStrategy>) {
    let empty = DaemonSetUpdateStrategy::default();
    let strategy = strategy.unwrap_or(&empty);
    let at = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&at, ""),
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, &at, rolling),
        _ => {
            let shown = check::json(strategy);
            errors.not_supported(path, shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn rolling_update(errors: &mut ErrorList, path: &Path, rolling: &RollingUpdateDaemonSet) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_at = path.child("maxUnavailable");
    let surge_at = path.child("maxSurge");
    check::positive_int_or_percent(errors, &unavailable_at, unavailable);
    check::positive_int_or_percent(errors, &surge_at, surge);
    check::at_most_100_percent(errors, &unavailable_at, unavailable);
    check::at_most_100_percent(errors, &surge_at, surge);
    match (check::amount(unavailable) != 0, check::amount(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.invalid(&surge_at, check::json(surge), detail);
        }
        (false, false) => errors.required(&unavailable_at, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

pub(super) fn update(new: &DaemonSet, old: &DaemonSet) -> ErrorList {
    let mut errors = ErrorList::new();
    selector::unchanged(&mut errors, &new.spec.selector, &old.spec.selector);
    spec(&mut errors, new, Some(old));
    errors
}

pub(super) fn status(new: &DaemonSet, old: &DaemonSet) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let number = |n: Option<i32>| i64::from(n.unwrap_or(0));
    let numbers = [
        (
            "currentNumberScheduled",
            status.current_number_scheduled.into(),
        ),
        ("numberMisscheduled", status.number_misscheduled.into()),
        (
            "desiredNumberScheduled",
            status.desired_number_scheduled.into(),
        ),
        ("numberReady", status.number_ready.into()),
        (
            "observedGeneration",
            status.observed_generation.unwrap_or(0),
        ),
        (
            "updatedNumberScheduled",
            number(status.updated_number_scheduled),
        ),
        ("numberAvailable", number(status.number_available)),
        ("numberUnavailable", number(status.number_unavailable)),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), number);
    }
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    workload::collisions(&mut errors, status.collision_count, before);
    errors
}
