//! The metrics of an autoscaler: as a column shows them, and the quantities in them.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::view::Items;

const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// The column: two metrics, and how many more there are.
pub(super) fn format(
    specs: &Option<Vec<MetricSpec>>,
    statuses: &Option<Vec<MetricStatus>>,
) -> String {
    let specs = specs.items();
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let one = |(i, spec)| metric(spec, statuses.items().get(i));
    let shown: Vec<String> = specs.iter().enumerate().take(SHOWN).map(one).collect();
    let shown = shown.join(", ");
    match specs.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

fn metric(spec: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let (resource, container) = (&spec.resource, &spec.container_resource);
    match spec.type_.as_str() {
        "External" => {
            let now = status.and_then(|s| s.external.as_ref()).map(|e| &e.current);
            spec.external.as_ref().map(|e| value(&e.target, now))
        }
        "Object" => {
            let now = status.and_then(|s| s.object.as_ref()).map(|o| &o.current);
            spec.object.as_ref().map(|o| value(&o.target, now))
        }
        "Pods" => {
            let now = status.and_then(|s| s.pods.as_ref()).map(|p| &p.current);
            spec.pods.as_ref().map(|p| average(&p.target, now))
        }
        "Resource" => {
            let now = status.and_then(|s| s.resource.as_ref()).map(|r| &r.current);
            resource.as_ref().map(|r| usage(&r.name, &r.target, now))
        }
        "ContainerResource" => {
            let now = status.and_then(|s| s.container_resource.as_ref());
            let now = now.map(|c| &c.current);
            container.as_ref().map(|c| usage(&c.name, &c.target, now))
        }
        _ => Some("<unknown type>".to_owned()),
    }
    .unwrap_or_else(|| UNKNOWN.to_owned())
}

fn text(quantity: Option<&Text>) -> &str {
    quantity.map_or("0", |q| q.0.as_str())
}

fn average(target: &MetricTarget, now: Option<&MetricValueStatus>) -> String {
    let now = now.map_or(UNKNOWN, |n| text(n.average_value.as_ref()));
    format!("{now}/{}", text(target.average_value.as_ref()))
}

fn value(target: &MetricTarget, now: Option<&MetricValueStatus>) -> String {
    if let Some(wanted) = &target.average_value {
        let now = now.and_then(|n| n.average_value.as_ref());
        return format!("{}/{} (avg)", now.map_or(UNKNOWN, |n| &n.0), wanted.0);
    }
    let now = now.map_or(UNKNOWN, |n| text(n.value.as_ref()));
    format!("{now}/{}", text(target.value.as_ref()))
}

fn usage(name: &str, target: &MetricTarget, now: Option<&MetricValueStatus>) -> String {
    if target.average_value.is_some() {
        return format!("{name}: {}", average(target, now));
    }
    let percent = |p: Option<i32>, none: &str| p.map_or(none.to_owned(), |p| format!("{p}%"));
    let now = percent(now.and_then(|n| n.average_utilization), UNKNOWN);
    format!(
        "{name}: {now}/{}",
        percent(target.average_utilization, "<auto>")
    )
}

/// Visits every quantity of the object.
pub(super) fn each_quantity(
    object: &mut HorizontalPodAutoscaler,
    visit: &mut dyn FnMut(&mut Text),
) {
    let mut targets: Vec<&mut MetricTarget> = Vec::new();
    for metric in object.spec.metrics.iter_mut().flatten() {
        targets.extend(metric.external.as_mut().map(|m| &mut m.target));
        targets.extend(metric.object.as_mut().map(|m| &mut m.target));
        targets.extend(metric.pods.as_mut().map(|m| &mut m.target));
        targets.extend(metric.resource.as_mut().map(|m| &mut m.target));
        targets.extend(metric.container_resource.as_mut().map(|m| &mut m.target));
    }
    for target in targets {
        target.value.iter_mut().for_each(&mut *visit);
        target.average_value.iter_mut().for_each(&mut *visit);
    }
    let behavior = object.spec.behavior.as_mut();
    let rules = behavior.map(|b| [b.scale_up.as_mut(), b.scale_down.as_mut()]);
    for rules in rules.into_iter().flatten().flatten() {
        rules.tolerance.iter_mut().for_each(&mut *visit);
    }
    let mut values: Vec<&mut MetricValueStatus> = Vec::new();
    let status = object
        .status
        .as_mut()
        .and_then(|s| s.current_metrics.as_mut());
    for metric in status.into_iter().flatten() {
        values.extend(metric.external.as_mut().map(|m| &mut m.current));
        values.extend(metric.object.as_mut().map(|m| &mut m.current));
        values.extend(metric.pods.as_mut().map(|m| &mut m.current));
        values.extend(metric.resource.as_mut().map(|m| &mut m.current));
        values.extend(metric.container_resource.as_mut().map(|m| &mut m.current));
    }
    for value in values {
        value.value.iter_mut().for_each(&mut *visit);
        value.average_value.iter_mut().for_each(&mut *visit);
    }
}
