//! What may be asked of an autoscaler.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec, MetricTarget,
};
use machinery::{ErrorList, Path, names};

use crate::check::{self, ErrorListExt, NOT_NEGATIVE};
use crate::core::resources;
use crate::view::{Items, OrEmpty, quantity};

const PERIOD_MAX: i32 = 1800;
const WINDOW_MAX: i32 = 3600;
const METRIC_TYPES: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// Which versions a reference may name.
#[derive(Clone, Copy)]
struct References {
    any: bool,
    core: bool,
}

/// Everything wrong with a spec that is new or replaces `old`.
pub(super) fn spec(
    spec: &HorizontalPodAutoscalerSpec,
    old: Option<&HorizontalPodAutoscalerSpec>,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    if let Some(min) = min.filter(|min| *min < 0) {
        errors.invalid(&path.child("minReplicas"), min, NOT_NEGATIVE);
    }
    let at = path.child("maxReplicas");
    if min.is_some_and(|min| max < min) {
        errors.invalid(&at, max, "must be greater than or equal to `minReplicas`");
    }
    let target = &spec.scale_target_ref;
    let same = |old: &HorizontalPodAutoscalerSpec| {
        let was = &old.scale_target_ref;
        was.api_version.text() == target.api_version.text() && was.kind == target.kind
    };
    let allowed = References {
        any: old.is_some_and(same),
        core: target.kind == "ReplicationController",
    };
    reference(&mut errors, &path.child("scaleTargetRef"), target, allowed);
    metrics(&mut errors, &path.child("metrics"), spec, old);
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        let both = [
            ("scaleUp", &behavior.scale_up),
            ("scaleDown", &behavior.scale_down),
        ];
        for (key, given) in both {
            if let Some(given) = given {
                rules(&mut errors, &path.child(key), given);
            }
        }
    }
    // What upstream's declarative rules say comes last.
    match max {
        0 => errors.required(&at, ""),
        ..0 => errors.invalid(&at, max, "must be greater than or equal to 1"),
        _ => {}
    }
    errors
}

/// Everything wrong with a status.
pub(super) fn status(status: &HorizontalPodAutoscalerStatus) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    for (i, condition) in status.conditions.items().iter().enumerate() {
        let at = path
            .child("conditions")
            .index(i)
            .child("observedGeneration");
        errors.not_negative(&at, condition.observed_generation.unwrap_or(0));
    }
    let current = i64::from(status.current_replicas.unwrap_or(0));
    errors.not_negative(&path.child("currentReplicas"), current);
    let desired = i64::from(status.desired_replicas);
    errors.not_negative(&path.child("desiredReplicas"), desired);
    errors
}

/// Why a reference does not say which version of which group it means.
fn version_problem(version: &str, allowed: References) -> Option<String> {
    if allowed.any {
        return None;
    }
    match version.matches('/').count() {
        0 if allowed.core => None,
        0 => Some("apiVersion must specify API group".to_owned()),
        1 if version == "/" && !allowed.core => {
            Some("apiVersion must specify API group".to_owned())
        }
        1 if version.starts_with('/') && !allowed.core => {
            Some("apiVersion must specify API group".to_owned())
        }
        1 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

fn reference(
    errors: &mut ErrorList,
    path: &Path,
    reference: &CrossVersionObjectReference,
    allowed: References,
) {
    check::required_path_segment(errors, &path.child("kind"), &reference.kind);
    check::required_path_segment(errors, &path.child("name"), &reference.name);
    let version = reference.api_version.text();
    if let Some(why) = version_problem(version, allowed) {
        errors.invalid(&path.child("apiVersion"), version, why);
    }
}

fn metrics(
    errors: &mut ErrorList,
    path: &Path,
    spec: &HorizontalPodAutoscalerSpec,
    old: Option<&HorizontalPodAutoscalerSpec>,
) {
    let core = References {
        any: false,
        core: true,
    };
    let was_wrong = |metric: &MetricSpec| {
        let object = metric.object.as_ref().filter(|_| metric.type_ == "Object");
        object
            .is_some_and(|o| version_problem(o.described_object.api_version.text(), core).is_some())
    };
    let any = old.is_some_and(|old| old.metrics.items().iter().any(was_wrong));
    let all = spec.metrics.items();
    for (i, given) in all.iter().enumerate() {
        metric(
            errors,
            &path.index(i),
            given,
            References { any, core: true },
        );
    }
    let from_outside = |m: &MetricSpec| matches!(m.type_.as_str(), "Object" | "External");
    if spec.min_replicas == Some(0) && !all.iter().any(from_outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(path, detail);
    }
}

fn metric(errors: &mut ErrorList, path: &Path, metric: &MetricSpec, allowed: References) {
    let at = path.child("type");
    let kind = metric.type_.as_str();
    errors.required_text(&at, kind, "must specify a metric source type");
    let known = METRIC_TYPES.contains(&kind);
    if !known {
        errors.not_supported(&at, kind, METRIC_TYPES);
    }
    let present: Vec<&str> = [
        ("object", metric.object.is_some()),
        ("external", metric.external.is_some()),
        ("pods", metric.pods.is_some()),
        ("resource", metric.resource.is_some()),
        ("containerResource", metric.container_resource.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    if let Some(first) = present.first() {
        source(errors, &path.child(first), first, metric, allowed);
    }
    let expected = match kind {
        "Object" => "object",
        "External" => "external",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if !known {
        errors.not_supported(&at, kind, METRIC_TYPES);
    } else if !present.contains(&expected) {
        let detail = "must populate information for the given metric source";
        errors.required(&path.child(expected), detail);
    }
    if present.len() != 1 {
        for key in present.into_iter().filter(|key| *key != expected) {
            let detail = "must populate the given metric source only";
            errors.forbidden(&path.child(key), detail);
        }
    }
}

fn source(
    errors: &mut ErrorList,
    path: &Path,
    key: &str,
    metric: &MetricSpec,
    allowed: References,
) {
    let at = path.child("target");
    match key {
        "object" => {
            let Some(given) = &metric.object else { return };
            let about = path.child("describedObject");
            reference(errors, &about, &given.described_object, allowed);
            identifier(errors, &path.child("metric"), &given.metric);
            target(errors, &at, &given.target);
            if given.target.value.is_none() && given.target.average_value.is_none() {
                let detail = "must set either a target value or averageValue";
                errors.required(&at.child("averageValue"), detail);
            }
        }
        "external" => {
            let Some(given) = &metric.external else {
                return;
            };
            identifier(errors, &path.child("metric"), &given.metric);
            target(errors, &at, &given.target);
            match (&given.target.value, &given.target.average_value) {
                (None, None) => {
                    let detail = "must set either a target value for metric or a per-pod target";
                    errors.required(&at.child("averageValue"), detail);
                }
                (Some(_), Some(_)) => {
                    let detail = "may not set both a target value for metric and a per-pod target";
                    errors.forbidden(&at.child("value"), detail);
                }
                _ => {}
            }
        }
        "pods" => {
            let Some(given) = &metric.pods else { return };
            identifier(errors, &path.child("metric"), &given.metric);
            target(errors, &at, &given.target);
            if given.target.average_value.is_none() {
                let detail = "must specify a positive target averageValue";
                errors.required(&at.child("averageValue"), detail);
            }
        }
        "resource" => {
            let Some(given) = &metric.resource else {
                return;
            };
            errors.required_text(
                &path.child("name"),
                &given.name,
                "must specify a resource name",
            );
            usage(errors, &at, &given.target);
        }
        _ => {
            let Some(given) = &metric.container_resource else {
                return;
            };
            let name = path.child("name");
            if errors.required_text(&name, &given.name, "must specify a resource name") {
                resources::container_resource_name(errors, &name, &given.name);
            }
            let container = path.child("container");
            if errors.required_text(&container, &given.container, "must specify a container") {
                let messages = names::dns1123_label(&given.container);
                errors.invalid_each(&container, &given.container, messages);
            }
            usage(errors, &at, &given.target);
        }
    }
}

/// A target of how much pods use of what they asked for.
fn usage(errors: &mut ErrorList, path: &Path, given: &MetricTarget) {
    target(errors, path, given);
    match (&given.average_utilization, &given.average_value) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), detail);
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&path.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn target(errors: &mut ErrorList, path: &Path, target: &MetricTarget) {
    let at = path.child("type");
    let kind = target.type_.as_str();
    errors.required_text(&at, kind, "must specify a metric target type");
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(
            &at,
            kind,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for (key, value) in [
        ("value", &target.value),
        ("averageValue", &target.average_value),
    ] {
        if let Some(text) = value
            && let Some(number) = resources::parse(errors, &path.child(key), text)
            && number.signum() != 1
        {
            errors.invalid(&path.child(key), text.0.as_str(), "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|p| *p < 1) {
        let detail = "must be greater than 0";
        errors.invalid(&path.child("averageUtilization"), percent, detail);
    }
}

fn identifier(errors: &mut ErrorList, path: &Path, metric: &MetricIdentifier) {
    let at = path.child("name");
    if errors.required_text(&at, &metric.name, "must specify a metric name") {
        errors.invalid_each(&at, &metric.name, names::path_segment_name(&metric.name));
    }
}

fn rules(errors: &mut ErrorList, path: &Path, rules: &HPAScalingRules) {
    let at = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(window @ ..0) => {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        }
        Some(window) if window > WINDOW_MAX => {
            let detail = format!("must be less than or equal to {WINDOW_MAX}");
            errors.invalid(&at, window, detail);
        }
        _ => {}
    }
    if let Some(select) = &rules.select_policy {
        errors.one_of(
            &path.child("selectPolicy"),
            select,
            &["Disabled", "Max", "Min"],
        );
    }
    let at = path.child("policies");
    if rules.policies.items().is_empty() {
        errors.required(&at, "must specify at least one Policy");
    }
    for (i, given) in rules.policies.items().iter().enumerate() {
        policy(errors, &at.index(i), given);
    }
    if let Some(tolerance) = &rules.tolerance
        && quantity(tolerance).is_none_or(|t| t.signum() < 0)
    {
        let at = path.child("tolerance");
        errors.invalid(&at, tolerance.0.as_str(), NOT_NEGATIVE);
    }
}

fn policy(errors: &mut ErrorList, path: &Path, policy: &HPAScalingPolicy) {
    errors.one_of(&path.child("type"), &policy.type_, &["Percent", "Pods"]);
    let at = path.child("periodSeconds");
    if policy.value <= 0 {
        errors.invalid(
            &path.child("value"),
            policy.value,
            "must be greater than zero",
        );
    }
    if policy.period_seconds <= 0 {
        errors.invalid(&at, policy.period_seconds, "must be greater than zero");
    }
    if policy.period_seconds > PERIOD_MAX {
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.invalid(&at, policy.period_seconds, detail);
    }
}
