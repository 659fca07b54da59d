//! The same autoscaler in both versions. What the older one has no field for goes through annotations, which exist only
//! there.
//!
//! Upstream: `pkg/apis/autoscaling/v1/conversion.go`. The annotation about behavior has the field names of upstream's
//! internal type: it was written so once.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::{v1, v2};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::Object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::old::{self, reference_to_new, reference_to_old};
use super::{DEFAULT_CPU_UTILIZATION, cpu_utilization};
use crate::check::json;
use crate::kind::set_or_remove;
use crate::view::Items;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// All that stand for fields, those of no version any more included.
const ALL: &[&str] = &[
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Turns a tree of the older version into one of the newer.
pub(super) fn to_new(object: &mut Object) {
    if let Ok(old) = object.view::<v1::HorizontalPodAutoscaler>() {
        replace(object, json(&new_of(&old)));
    }
    object.set_type("autoscaling/v2", "HorizontalPodAutoscaler");
}

/// Turns a tree of the newer version into one of the older.
pub(super) fn to_old(object: &mut Object) {
    if let Ok(new) = object.view::<v2::HorizontalPodAutoscaler>() {
        replace(object, json(&old_of(&new)));
    }
    object.set_type("autoscaling/v1", "HorizontalPodAutoscaler");
}

/// Takes over everything but the metadata that have nothing to do with the version.
fn replace(object: &mut Object, mut converted: Value) {
    for key in ["spec", "status"] {
        let value = converted.get_mut(key).map(Value::take);
        set_or_remove(object, key, value);
    }
    let annotations = converted
        .get_mut("metadata")
        .and_then(|m| m.get_mut("annotations"))
        .map(Value::take);
    let metadata = object.metadata_mut();
    match annotations {
        Some(annotations) => drop(metadata.insert("annotations".into(), annotations)),
        None => drop(metadata.remove("annotations")),
    }
}

/// `HorizontalPodAutoscalerBehavior` as upstream names it inside.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Behavior {
    scale_up: Option<Rules>,
    scale_down: Option<Rules>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Rules {
    stabilization_window_seconds: Option<i32>,
    select_policy: Option<String>,
    policies: Option<Vec<Policy>>,
    tolerance: Option<Quantity>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Policy {
    r#type: String,
    value: i32,
    period_seconds: i32,
}

fn rules_to_old(rules: &v2::HPAScalingRules) -> Rules {
    let policy = |p: &v2::HPAScalingPolicy| Policy {
        r#type: p.type_.clone(),
        value: p.value,
        period_seconds: p.period_seconds,
    };
    Rules {
        stabilization_window_seconds: rules.stabilization_window_seconds,
        select_policy: rules.select_policy.clone(),
        policies: rules
            .policies
            .as_ref()
            .map(|p| p.iter().map(policy).collect()),
        tolerance: rules.tolerance.clone(),
    }
}

fn rules_to_new(rules: &Rules) -> v2::HPAScalingRules {
    let policy = |p: &Policy| v2::HPAScalingPolicy {
        type_: p.r#type.clone(),
        value: p.value,
        period_seconds: p.period_seconds,
    };
    v2::HPAScalingRules {
        stabilization_window_seconds: rules.stabilization_window_seconds,
        select_policy: rules.select_policy.clone(),
        policies: rules
            .policies
            .as_ref()
            .map(|p| p.iter().map(policy).collect()),
        tolerance: rules.tolerance.clone(),
    }
}

/// The CPU utilization of a metric, which the older version has a field for.
fn cpu_of(metric: &v2::MetricSpec) -> Option<i32> {
    let resource = metric
        .resource
        .as_ref()
        .filter(|_| metric.type_ == "Resource");
    resource
        .filter(|r| r.name == "cpu")
        .and_then(|r| r.target.average_utilization)
}

/// An annotation that holds JSON; one that does not is as good as none.
fn held<T: DeserializeOwned>(old: &v1::HorizontalPodAutoscaler, key: &str) -> Option<T> {
    let text = old.metadata.annotations.as_ref()?.get(key)?;
    serde_json::from_str(text).ok()
}

/// The object in the newer version.
pub(super) fn new_of(old: &v1::HorizontalPodAutoscaler) -> v2::HorizontalPodAutoscaler {
    let mut metadata = old.metadata.clone();
    let annotations = metadata.annotations.take().map(own);
    metadata.annotations = annotations.filter(|a| !a.is_empty());
    let others: Option<Vec<old::Spec>> = held(old, METRICS);
    let mut metrics: Vec<v2::MetricSpec> = others.iter().flatten().map(Into::into).collect();
    metrics.extend(
        old.spec
            .target_cpu_utilization_percentage
            .map(cpu_utilization),
    );
    if metrics.is_empty() {
        metrics.push(cpu_utilization(DEFAULT_CPU_UTILIZATION));
    }
    let behavior: Option<Behavior> = held(old, BEHAVIOR);
    let behavior = behavior.filter(|b| b.scale_up.is_some() || b.scale_down.is_some());
    v2::HorizontalPodAutoscaler {
        metadata,
        spec: v2::HorizontalPodAutoscalerSpec {
            scale_target_ref: reference_to_new(&old.spec.scale_target_ref),
            min_replicas: old.spec.min_replicas,
            max_replicas: old.spec.max_replicas,
            metrics: Some(metrics),
            behavior: behavior.map(|b| v2::HorizontalPodAutoscalerBehavior {
                scale_up: b.scale_up.as_ref().map(rules_to_new),
                scale_down: b.scale_down.as_ref().map(rules_to_new),
            }),
        },
        status: old.status.as_ref().map(|status| new_status(old, status)),
    }
}

fn new_status(
    old: &v1::HorizontalPodAutoscaler,
    status: &v1::HorizontalPodAutoscalerStatus,
) -> v2::HorizontalPodAutoscalerStatus {
    let measured: Option<Vec<old::Status>> = held(old, CURRENT_METRICS);
    let cpu = status.current_cpu_utilization_percentage.map(|percent| {
        vec![v2::MetricStatus {
            type_: "Resource".to_owned(),
            resource: Some(v2::ResourceMetricStatus {
                name: "cpu".to_owned(),
                current: v2::MetricValueStatus {
                    average_utilization: Some(percent),
                    ..v2::MetricValueStatus::default()
                },
            }),
            ..v2::MetricStatus::default()
        }]
    });
    let conditions: Option<Vec<old::Condition>> = held(old, CONDITIONS);
    v2::HorizontalPodAutoscalerStatus {
        observed_generation: status.observed_generation,
        last_scale_time: status.last_scale_time.clone(),
        current_replicas: Some(status.current_replicas).filter(|n| *n != 0),
        desired_replicas: status.desired_replicas,
        current_metrics: measured
            .map(|all| all.iter().map(Into::into).collect())
            .or(cpu),
        conditions: conditions.map(|all| all.iter().map(Into::into).collect()),
    }
}

/// The object in the older version.
pub(super) fn old_of(new: &v2::HorizontalPodAutoscaler) -> v1::HorizontalPodAutoscaler {
    let mut metadata = new.metadata.clone();
    let mut annotations = own(metadata.annotations.take().unwrap_or_default());
    let status = new.status.clone().unwrap_or_default();
    let mut hold = |key: &str, text: Option<String>| {
        annotations.extend(text.map(|text| (key.to_owned(), text)));
    };
    let metrics = new.spec.metrics.items();
    let others = metrics.iter().filter(|m| cpu_of(m).is_none());
    hold(METRICS, list(others.map(old::Spec::from).collect()));
    let measured = status.current_metrics.items();
    hold(
        CURRENT_METRICS,
        list(measured.iter().map(old::Status::from).collect()),
    );
    let behavior = new.spec.behavior.as_ref().map(|b| Behavior {
        scale_up: b.scale_up.as_ref().map(rules_to_old),
        scale_down: b.scale_down.as_ref().map(rules_to_old),
    });
    hold(
        BEHAVIOR,
        behavior.and_then(|b| serde_json::to_string(&b).ok()),
    );
    let conditions = status.conditions.items();
    hold(
        CONDITIONS,
        list(conditions.iter().map(old::Condition::from).collect()),
    );
    metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
    let cpu = |m: &v2::MetricStatus| {
        let resource = m
            .resource
            .as_ref()
            .filter(|r| m.type_ == "Resource" && r.name == "cpu");
        resource.and_then(|r| r.current.average_utilization)
    };
    v1::HorizontalPodAutoscaler {
        metadata,
        spec: v1::HorizontalPodAutoscalerSpec {
            scale_target_ref: reference_to_old(&new.spec.scale_target_ref),
            min_replicas: new.spec.min_replicas,
            max_replicas: new.spec.max_replicas,
            target_cpu_utilization_percentage: metrics.iter().find_map(cpu_of),
        },
        status: new
            .status
            .as_ref()
            .map(|_| v1::HorizontalPodAutoscalerStatus {
                observed_generation: status.observed_generation,
                last_scale_time: status.last_scale_time.clone(),
                current_replicas: status.current_replicas.unwrap_or(0),
                desired_replicas: status.desired_replicas,
                current_cpu_utilization_percentage: measured.iter().filter_map(cpu).next_back(),
            }),
    }
}

/// The annotations that have nothing to do with the version.
fn own(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.retain(|key, _| !ALL.contains(&key.as_str()));
    annotations
}

/// A list as JSON, when there is anything in it.
fn list<T: Serialize>(items: Vec<T>) -> Option<String> {
    (!items.is_empty())
        .then(|| serde_json::to_string(&items).ok())
        .flatten()
}
