//! HorizontalPodAutoscaler: how many replicas something may have, by what its pods do. It is stored as `autoscaling/v2`;
//! [`v1`] is the same object as the older version shows it.
//!
//! Upstream: `pkg/registry/autoscaling/horizontalpodautoscaler`, `pkg/apis/autoscaling`.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler as Typed, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};
use serde_json::json;

use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{fill_with, quantity};

mod convert;
mod metrics;
mod old;
pub mod v1;
mod validation;

#[cfg(test)]
mod tests;

/// The share of its requested CPU that a pod should use when nothing else is said.
pub const DEFAULT_CPU_UTILIZATION: i32 = 80;
const PERIOD_SECONDS: i32 = 15;

/// The kind `HorizontalPodAutoscaler`.
pub struct HorizontalPodAutoscaler;

const NAMES: Names = Names::new(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "horizontalpodautoscaler",
)
.short(&["hpa"])
.in_all();

const COLUMNS: &[Column] = &[
    columns::NAME,
    columns::text(
        "Reference",
        "scaleTargetRef points to the target resource to scale, and is used \
                                to the pods for which metrics should be collected, as well as to \
                                actually change the replica count.",
    ),
    columns::text(
        "Targets",
        "metrics contains the specifications for which to use to calculate the \
                              desired replica count (the maximum replica count across all metrics \
                              will be used).  The desired replica count is calculated multiplying \
                              the ratio between the target value and the current value by the \
                              current number of pods.  Ergo, metrics used must decrease as the pod \
                              count is increased, and vice-versa.  See the individual metric source \
                              types for more information about how each type of metric must \
                              respond. If not set, the default metric will be set to 80% average \
                              CPU utilization.",
    ),
    columns::text(
        "MinPods",
        "minReplicas is the lower limit for the number of replicas to which \
                              the autoscaler can scale down.  It defaults to 1 pod.  minReplicas is \
                              allowed to be 0 if the alpha feature gate HPAScaleToZero is enabled \
                              and at least one Object or External metric is configured.  Scaling is \
                              active as long as at least one metric value is available.",
    ),
    columns::text(
        "MaxPods",
        "maxReplicas is the upper limit for the number of replicas to which \
                              the autoscaler can scale up. It cannot be less that minReplicas.",
    ),
    columns::text(
        "Replicas",
        "currentReplicas is current number of replicas of pods managed by \
                               this autoscaler, as last seen by the autoscaler.",
    ),
    columns::AGE,
];

impl Kind for HorizontalPodAutoscaler {
    type Object = Typed;
    const NAMES: Names = NAMES;
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = COLUMNS;
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        fill_with(&mut object.spec.min_replicas, 1);
        let metrics = object.spec.metrics.get_or_insert_default();
        if metrics.is_empty() {
            metrics.push(cpu_utilization(DEFAULT_CPU_UTILIZATION));
        }
        if let Some(behavior) = &mut object.spec.behavior {
            let down = behavior.scale_down.get_or_insert_default();
            default_rules(down, &[("Percent", 100)]);
            let up = behavior.scale_up.get_or_insert_default();
            fill_with(&mut up.stabilization_window_seconds, 0);
            default_rules(up, &[("Pods", 4), ("Percent", 100)]);
        }
        metrics::each_quantity(object, &mut canonical);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({"desiredReplicas": 0}));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::spec(&new.spec, None)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(&new.status.clone().unwrap_or_default()),
            _ => validation::spec(&new.spec, Some(&old.spec)),
        }
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
        let target = &spec.scale_target_ref;
        let min = spec.min_replicas.map(|n| n.to_string());
        Row::from(vec![
            tree.name().into(),
            format!("{}/{}", target.kind, target.name).into(),
            metrics::format(&spec.metrics, &status.current_metrics).into(),
            min.as_deref().unwrap_or("<unset>").into(),
            spec.max_replicas.into(),
            status.current_replicas.unwrap_or(0).into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn canonical(text: &mut Text) {
    if let Some(number) = quantity(text) {
        text.0 = number.to_string();
    }
}

/// The metric of old: how much of the CPU that they requested pods use.
fn cpu_utilization(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn default_rules(rules: &mut HPAScalingRules, policies: &[(&str, i32)]) {
    fill_with(&mut rules.select_policy, "Max".to_owned());
    rules.policies.get_or_insert_with(|| {
        let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: PERIOD_SECONDS,
        };
        policies.iter().map(policy).collect()
    });
}
