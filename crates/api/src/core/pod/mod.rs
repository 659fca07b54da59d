//! Pod: containers that run together on one node, share network and volumes, and live and die as one.
//!
//! Upstream: `pkg/registry/core/pod`, `ValidatePod*` in `pkg/apis/core/validation`, `printPod`.

pub mod aggregate;
mod app_armor;
pub mod defaults;
pub(crate) mod disabled;
pub mod qos;
mod strategy;
mod table;
pub mod validation;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};
use serde_json::Value;

use crate::kind::{Context, Kind, Names, Part, Scope, Subresource};

/// The kind `Pod`.
pub struct Pod;

impl Kind for Pod {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Pod", "pods", "pod")
        .short(&["po"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const STATUS_RESETS: &'static [&'static [&'static str]] = &[
        &["metadata", "deletionTimestamp"],
        &["metadata", "ownerReferences"],
        &["spec"],
    ];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::Part(Part::EphemeralContainers),
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Part(Part::Resize),
        Subresource::Part(Part::Status),
    ];
    const COLUMNS: &'static [Column] = table::COLUMNS;
    const HAS_GENERATION: bool = true;
    const RETURNS_DELETED: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ];

    fn grace_period_seconds(object: &Object) -> Option<i64> {
        Self::grace_period(object, None)
    }

    fn grace_period(object: &Object, requested: Option<i64>) -> Option<i64> {
        let own = object
            .at(&["spec", "terminationGracePeriodSeconds"])
            .and_then(Value::as_i64);
        let period = requested.or(own).unwrap_or(0);
        // Nothing runs yet, or nothing runs any more: there is nobody to wait for.
        let idle = object.str_at(&["spec", "nodeName"]).is_empty()
            || matches!(object.str_at(&["status", "phase"]), "Failed" | "Succeeded");
        Some(match period {
            _ if idle => 0,
            negative if negative < 0 => 1,
            period => period,
        })
    }

    fn default(object: &mut Typed) {
        defaults::pod(object);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        strategy::prepare_create(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        strategy::prepare_update(part, new, old);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::update::status(new, old),
            Part::EphemeralContainers => validation::update::ephemeral_containers(new, old),
            Part::Resize => validation::update::resize(new, old),
            _ => validation::update::main(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        strategy::warnings(new)
    }

    const WARNS_ON: &'static [Part] = &[Part::Status];
    fn update_warnings(_part: Part, new: &Typed, _old: &Typed) -> Vec<String> {
        strategy::status_warnings(new)
    }

    fn unprepared_warnings(new: &Object) -> Vec<String> {
        app_armor::warnings(new)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let text = |path: &[&str]| object.str_at(path).to_owned();
        let host_network = object.at(&["spec", "hostNetwork"]).and_then(Value::as_bool);
        let pod_ips = object.at(&["status", "podIPs"]).and_then(Value::as_array);
        let pod_ips = pod_ips
            .into_iter()
            .flatten()
            .filter_map(|ip| ip.get("ip")?.as_str());
        vec![
            ("spec.nodeName", text(&["spec", "nodeName"])),
            ("spec.restartPolicy", text(&["spec", "restartPolicy"])),
            ("spec.schedulerName", text(&["spec", "schedulerName"])),
            (
                "spec.serviceAccountName",
                text(&["spec", "serviceAccountName"]),
            ),
            (
                "spec.hostNetwork",
                host_network.unwrap_or(false).to_string(),
            ),
            ("status.phase", text(&["status", "phase"])),
            ("status.podIP", text(&["status", "podIP"])),
            ("status.podIPs", pod_ips.collect::<Vec<_>>().join(",")),
            (
                "status.nominatedNodeName",
                text(&["status", "nominatedNodeName"]),
            ),
        ]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        table::row(object, tree, now)
    }
}

#[cfg(test)]
mod tests;
