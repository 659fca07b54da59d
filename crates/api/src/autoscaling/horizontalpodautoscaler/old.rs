//! Metrics as annotations of `autoscaling/v1` hold them, with their fields in upstream's order.

use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference as OldReference;
use k8s_openapi::api::autoscaling::v2 as new;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde::{Deserialize, Serialize};

/// A reference, with its fields in upstream's order.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reference {
    kind: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
}

/// What is measured (`value`: the target) or was (`value`: the measurement).
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metric<O, P, R, C, E> {
    #[serde(default)]
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<O>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_resource: Option<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<E>,
}

/// A metric of a spec.
pub(super) type Spec =
    Metric<ObjectSource, PodsSource, ResourceSource, ContainerSource, ExternalSource>;
/// A metric of a status.
pub(super) type Status =
    Metric<ObjectStatus, PodsStatus, ResourceStatus, ContainerStatus, ExternalStatus>;

macro_rules! old {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty,)* })*) => {$(
        #[derive(Clone, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub(super) struct $name { $($(#[$attribute])* $field: $kind,)* }
    )*};
}

old! {
    ObjectSource {
        #[serde(default)]
        target: Reference,
        #[serde(default)]
        metric_name: String,
        #[serde(default = "zero")]
        target_value: Quantity,
        #[serde(skip_serializing_if = "Option::is_none")]
        selector: Option<LabelSelector>,
        #[serde(skip_serializing_if = "Option::is_none")]
        average_value: Option<Quantity>,
    }
    PodsSource {
        #[serde(default)]
        metric_name: String,
        #[serde(default = "zero")]
        target_average_value: Quantity,
        #[serde(skip_serializing_if = "Option::is_none")]
        selector: Option<LabelSelector>,
    }
    ResourceSource {
        #[serde(default)]
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_average_utilization: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_average_value: Option<Quantity>,
    }
    ContainerSource {
        #[serde(default)]
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_average_utilization: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_average_value: Option<Quantity>,
        #[serde(default)]
        container: String,
    }
    ExternalSource {
        #[serde(default)]
        metric_name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        metric_selector: Option<LabelSelector>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_value: Option<Quantity>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_average_value: Option<Quantity>,
    }
    ObjectStatus {
        #[serde(default)]
        target: Reference,
        #[serde(default)]
        metric_name: String,
        #[serde(default = "zero")]
        current_value: Quantity,
        #[serde(skip_serializing_if = "Option::is_none")]
        selector: Option<LabelSelector>,
        #[serde(skip_serializing_if = "Option::is_none")]
        average_value: Option<Quantity>,
    }
    PodsStatus {
        #[serde(default)]
        metric_name: String,
        #[serde(default = "zero")]
        current_average_value: Quantity,
        #[serde(skip_serializing_if = "Option::is_none")]
        selector: Option<LabelSelector>,
    }
    ResourceStatus {
        #[serde(default)]
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        current_average_utilization: Option<i32>,
        #[serde(default = "zero")]
        current_average_value: Quantity,
    }
    ContainerStatus {
        #[serde(default)]
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        current_average_utilization: Option<i32>,
        #[serde(default = "zero")]
        current_average_value: Quantity,
        #[serde(default)]
        container: String,
    }
    ExternalStatus {
        #[serde(default)]
        metric_name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        metric_selector: Option<LabelSelector>,
        #[serde(default = "zero")]
        current_value: Quantity,
        #[serde(skip_serializing_if = "Option::is_none")]
        current_average_value: Option<Quantity>,
    }
    Condition {
        #[serde(default)]
        r#type: String,
        #[serde(default)]
        status: String,
        #[serde(default)]
        last_transition_time: Option<Time>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        observed_generation: Option<i64>,
    }
}

fn zero() -> Quantity {
    Quantity("0".to_owned())
}

fn or_zero(quantity: Option<&Quantity>) -> Quantity {
    quantity.cloned().unwrap_or_else(zero)
}

fn identifier(name: &str, selector: Option<&LabelSelector>) -> new::MetricIdentifier {
    new::MetricIdentifier {
        name: name.to_owned(),
        selector: selector.cloned(),
    }
}

fn target(
    kind: &str,
    value: Option<Quantity>,
    average_value: Option<Quantity>,
    average_utilization: Option<i32>,
) -> new::MetricTarget {
    new::MetricTarget {
        type_: kind.to_owned(),
        value,
        average_value,
        average_utilization,
    }
}

fn usage_target(utilization: Option<i32>, value: Option<&Quantity>) -> new::MetricTarget {
    let kind = match utilization {
        None => "AverageValue",
        Some(_) => "Utilization",
    };
    target(kind, None, value.cloned(), utilization)
}

fn measured(
    value: Option<Quantity>,
    average_value: Option<Quantity>,
    average_utilization: Option<i32>,
) -> new::MetricValueStatus {
    new::MetricValueStatus {
        value,
        average_value,
        average_utilization,
    }
}

impl From<&new::CrossVersionObjectReference> for Reference {
    fn from(given: &new::CrossVersionObjectReference) -> Self {
        Self {
            kind: given.kind.clone(),
            name: given.name.clone(),
            api_version: given.api_version.clone().filter(|v| !v.is_empty()),
        }
    }
}

impl From<&Reference> for new::CrossVersionObjectReference {
    fn from(given: &Reference) -> Self {
        Self {
            kind: given.kind.clone(),
            name: given.name.clone(),
            api_version: given.api_version.clone(),
        }
    }
}

/// A reference of the newer version as the older one has it.
pub(super) fn reference_to_old(given: &new::CrossVersionObjectReference) -> OldReference {
    OldReference {
        kind: given.kind.clone(),
        name: given.name.clone(),
        api_version: given.api_version.clone(),
    }
}

/// A reference of the older version as the newer one has it.
pub(super) fn reference_to_new(given: &OldReference) -> new::CrossVersionObjectReference {
    new::CrossVersionObjectReference {
        kind: given.kind.clone(),
        name: given.name.clone(),
        api_version: given.api_version.clone(),
    }
}

impl From<&new::MetricSpec> for Spec {
    fn from(given: &new::MetricSpec) -> Self {
        Self {
            r#type: given.type_.clone(),
            object: given.object.as_ref().map(|m| ObjectSource {
                target: (&m.described_object).into(),
                metric_name: m.metric.name.clone(),
                target_value: or_zero(m.target.value.as_ref()),
                selector: m.metric.selector.clone(),
                average_value: m.target.average_value.clone(),
            }),
            pods: given.pods.as_ref().map(|m| PodsSource {
                metric_name: m.metric.name.clone(),
                target_average_value: or_zero(m.target.average_value.as_ref()),
                selector: m.metric.selector.clone(),
            }),
            resource: given.resource.as_ref().map(|m| ResourceSource {
                name: m.name.clone(),
                target_average_utilization: m.target.average_utilization,
                target_average_value: m.target.average_value.clone(),
            }),
            container_resource: given.container_resource.as_ref().map(|m| ContainerSource {
                name: m.name.clone(),
                target_average_utilization: m.target.average_utilization,
                target_average_value: m.target.average_value.clone(),
                container: m.container.clone(),
            }),
            external: given.external.as_ref().map(|m| ExternalSource {
                metric_name: m.metric.name.clone(),
                metric_selector: m.metric.selector.clone(),
                target_value: m.target.value.clone(),
                target_average_value: m.target.average_value.clone(),
            }),
        }
    }
}

impl From<&Spec> for new::MetricSpec {
    fn from(given: &Spec) -> Self {
        Self {
            type_: given.r#type.clone(),
            object: given.object.as_ref().map(|m| {
                let average = m.average_value.clone();
                let (kind, value) = match average {
                    None => ("Value", Some(m.target_value.clone())),
                    // The older version cannot leave it out; a zero stands for nothing.
                    Some(_) => (
                        "AverageValue",
                        Some(m.target_value.clone()).filter(|v| v.0 != "0"),
                    ),
                };
                new::ObjectMetricSource {
                    described_object: (&m.target).into(),
                    metric: identifier(&m.metric_name, m.selector.as_ref()),
                    target: target(kind, value, average, None),
                }
            }),
            pods: given.pods.as_ref().map(|m| new::PodsMetricSource {
                metric: identifier(&m.metric_name, m.selector.as_ref()),
                target: target(
                    "AverageValue",
                    None,
                    Some(m.target_average_value.clone()),
                    None,
                ),
            }),
            resource: given.resource.as_ref().map(|m| new::ResourceMetricSource {
                name: m.name.clone(),
                target: usage_target(
                    m.target_average_utilization,
                    m.target_average_value.as_ref(),
                ),
            }),
            container_resource: given.container_resource.as_ref().map(|m| {
                new::ContainerResourceMetricSource {
                    name: m.name.clone(),
                    container: m.container.clone(),
                    target: usage_target(
                        m.target_average_utilization,
                        m.target_average_value.as_ref(),
                    ),
                }
            }),
            external: given.external.as_ref().map(|m| {
                let kind = match m.target_value {
                    None => "AverageValue",
                    Some(_) => "Value",
                };
                let (value, average) = (m.target_value.clone(), m.target_average_value.clone());
                new::ExternalMetricSource {
                    metric: identifier(&m.metric_name, m.metric_selector.as_ref()),
                    target: target(kind, value, average, None),
                }
            }),
        }
    }
}

impl From<&new::MetricStatus> for Status {
    fn from(given: &new::MetricStatus) -> Self {
        Self {
            r#type: given.type_.clone(),
            object: given.object.as_ref().map(|m| ObjectStatus {
                target: (&m.described_object).into(),
                metric_name: m.metric.name.clone(),
                current_value: or_zero(m.current.value.as_ref()),
                selector: m.metric.selector.clone(),
                average_value: m.current.average_value.clone(),
            }),
            pods: given.pods.as_ref().map(|m| PodsStatus {
                metric_name: m.metric.name.clone(),
                current_average_value: or_zero(m.current.average_value.as_ref()),
                selector: m.metric.selector.clone(),
            }),
            resource: given.resource.as_ref().map(|m| ResourceStatus {
                name: m.name.clone(),
                current_average_utilization: m.current.average_utilization,
                current_average_value: or_zero(m.current.average_value.as_ref()),
            }),
            container_resource: given.container_resource.as_ref().map(|m| ContainerStatus {
                name: m.name.clone(),
                current_average_utilization: m.current.average_utilization,
                current_average_value: or_zero(m.current.average_value.as_ref()),
                container: m.container.clone(),
            }),
            external: given.external.as_ref().map(|m| ExternalStatus {
                metric_name: m.metric.name.clone(),
                metric_selector: m.metric.selector.clone(),
                current_value: or_zero(m.current.value.as_ref()),
                current_average_value: m.current.average_value.clone(),
            }),
        }
    }
}

impl From<&Status> for new::MetricStatus {
    fn from(given: &Status) -> Self {
        Self {
            type_: given.r#type.clone(),
            object: given.object.as_ref().map(|m| new::ObjectMetricStatus {
                described_object: (&m.target).into(),
                metric: identifier(&m.metric_name, m.selector.as_ref()),
                current: measured(Some(m.current_value.clone()), m.average_value.clone(), None),
            }),
            pods: given.pods.as_ref().map(|m| new::PodsMetricStatus {
                metric: identifier(&m.metric_name, m.selector.as_ref()),
                current: measured(None, Some(m.current_average_value.clone()), None),
            }),
            resource: given.resource.as_ref().map(|m| new::ResourceMetricStatus {
                name: m.name.clone(),
                current: measured(
                    None,
                    Some(m.current_average_value.clone()),
                    m.current_average_utilization,
                ),
            }),
            container_resource: given.container_resource.as_ref().map(|m| {
                new::ContainerResourceMetricStatus {
                    name: m.name.clone(),
                    container: m.container.clone(),
                    current: measured(
                        None,
                        Some(m.current_average_value.clone()),
                        m.current_average_utilization,
                    ),
                }
            }),
            external: given.external.as_ref().map(|m| new::ExternalMetricStatus {
                metric: identifier(&m.metric_name, m.metric_selector.as_ref()),
                current: measured(
                    Some(m.current_value.clone()),
                    m.current_average_value.clone(),
                    None,
                ),
            }),
        }
    }
}

impl From<&new::HorizontalPodAutoscalerCondition> for Condition {
    fn from(given: &new::HorizontalPodAutoscalerCondition) -> Self {
        Self {
            r#type: given.type_.clone(),
            status: given.status.clone(),
            last_transition_time: given.last_transition_time.clone(),
            reason: given.reason.clone().unwrap_or_default(),
            message: given.message.clone().unwrap_or_default(),
            observed_generation: given.observed_generation,
        }
    }
}

impl From<&Condition> for new::HorizontalPodAutoscalerCondition {
    fn from(given: &Condition) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            type_: given.r#type.clone(),
            status: given.status.clone(),
            last_transition_time: given.last_transition_time.clone(),
            reason: text(&given.reason),
            message: text(&given.message),
            observed_generation: given.observed_generation,
        }
    }
}
