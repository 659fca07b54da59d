//! Fields of a Service that hang together: kept, cleared and filled in by what else changed.
//!
//! Upstream: `normalizeClusterIPs` and `patchAllocatedValues` in `registry/core/service/storage`, `dropTypeDependentFields`
//! in `registry/core/service/strategy.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery::Object;
use serde_json::{Value, json};

use super::{is_externally_accessible, needs_health_check};
use crate::kind;
use crate::view::{Items, OrEmpty};

/// A new Service has no status; an old client's `clusterIP` becomes the first of `clusterIPs`.
pub(super) fn prepare_create(new: &mut Object) {
    new.0.insert("status".into(), json!({"loadBalancer": {}}));
    let ip = new.str_at(&["spec", "clusterIP"]).to_owned();
    let none = new
        .at(&["spec", "clusterIPs"])
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if !ip.is_empty() && none {
        kind::set_at(new, &["spec"], "clusterIPs", Some(json!([ip])));
    }
}

/// Puts back what the client did not mean to clear and clears what no longer applies.
pub(super) fn prepare_update(new: &mut Object, old: &Object) {
    let (Ok(mut after), Ok(before)) = (new.view::<Service>(), old.view::<Service>()) else {
        return;
    };
    let (spec, was) = (
        after.spec.get_or_insert_default(),
        before.spec.unwrap_or_default(),
    );
    keep_allocated(spec, &was);
    normalize(spec, &was);
    drop_by_type(spec, &was);
    write_back(new, spec);
    if new.str_at(&["spec", "type"]) != "LoadBalancer" {
        kind::set_at(new, &["status"], "loadBalancer", Some(json!({})));
    }
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    spec.type_.text() != "ExternalName"
}

/// The type uses node ports, whether or not the server hands them out.
fn uses_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.text(), "NodePort" | "LoadBalancer")
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports
        .items()
        .iter()
        .filter_map(|p| p.node_port)
        .filter(|p| *p != 0)
        .collect()
}

/// The same YAML again must not lose what was handed out for it.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new.cluster_ip.text().is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.items().is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if super::allocation::wants_node_ports(old) && super::allocation::wants_node_ports(new) {
        let used: BTreeSet<i32> = node_ports(old)
            .intersection(&node_ports(new))
            .copied()
            .collect();
        let by_name: BTreeMap<&str, i32> = old
            .ports
            .items()
            .iter()
            .map(|p| (p.name.text(), p.node_port.unwrap_or(0)))
            .collect();
        for port in new.ports.iter_mut().flatten() {
            let before = by_name.get(port.name.text()).copied().unwrap_or(0);
            if port.node_port.unwrap_or(0) == 0 && before != 0 && !used.contains(&before) {
                port.node_port = Some(before);
            }
        }
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Keeps `clusterIP` and `clusterIPs` together for clients that know only the first.
fn normalize(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_single = old.cluster_ip.text() == new.cluster_ip.text();
    if new.cluster_ips.items().is_empty() && same_single {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    let same_list = old.cluster_ips.items() == new.cluster_ips.items();
    if !same_single && same_list {
        new.cluster_ips = match new.cluster_ip.text() {
            "" => None,
            ip => Some(vec![ip.to_owned()]),
        };
    }
}

/// A field that the new type does not use, and that the client left alone, goes.
fn drop_by_type(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        let same_ip = old.cluster_ip.text() == new.cluster_ip.text();
        if same_ip && old.cluster_ips.items() == new.cluster_ips.items() {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if old.ip_families.items() == new.ip_families.items() {
            new.ip_families = None;
        }
        if old.ip_family_policy.text() == new.ip_family_policy.text() {
            new.ip_family_policy = None;
        }
    }
    if uses_node_ports(old)
        && !uses_node_ports(new)
        && node_ports(old).is_superset(&node_ports(new))
    {
        new.ports
            .iter_mut()
            .flatten()
            .for_each(|p| p.node_port = None);
    }
    let same_check = old.health_check_node_port == new.health_check_node_port;
    if needs_health_check(old) && !needs_health_check(new) && same_check {
        new.health_check_node_port = None;
    }
    let balances = |spec: &ServiceSpec| spec.type_.text() == "LoadBalancer";
    if balances(old) && !balances(new) {
        if old.allocate_load_balancer_node_ports == new.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if old.load_balancer_class == new.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    let same_policy = old.external_traffic_policy.text() == new.external_traffic_policy.text();
    if is_externally_accessible(old) && !is_externally_accessible(new) && same_policy {
        new.external_traffic_policy = None;
    }
}

/// Writes the fields that this module (or an allocation) changes into the tree, and no others.
pub(super) fn write_back(tree: &mut Object, spec: &ServiceSpec) {
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let list = |value: &Option<Vec<String>>| value.clone().map(Value::from);
    let fields = [
        ("clusterIP", text(&spec.cluster_ip)),
        ("clusterIPs", list(&spec.cluster_ips)),
        ("ipFamilies", list(&spec.ip_families)),
        ("ipFamilyPolicy", text(&spec.ip_family_policy)),
        (
            "healthCheckNodePort",
            spec.health_check_node_port.map(Value::from),
        ),
        (
            "allocateLoadBalancerNodePorts",
            spec.allocate_load_balancer_node_ports.map(Value::from),
        ),
        ("loadBalancerClass", text(&spec.load_balancer_class)),
        ("externalTrafficPolicy", text(&spec.external_traffic_policy)),
    ];
    for (key, value) in fields {
        kind::set_at(tree, &["spec"], key, value);
    }
    let ports = tree.0.get_mut("spec").and_then(|s| s.get_mut("ports"));
    let ports = ports.and_then(Value::as_array_mut).into_iter().flatten();
    for (slot, port) in ports.zip(spec.ports.items()) {
        let Some(slot) = slot.as_object_mut() else {
            continue;
        };
        match port.node_port.filter(|p| *p != 0) {
            Some(number) => drop(slot.insert("nodePort".into(), number.into())),
            None => drop(slot.remove("nodePort")),
        }
    }
}
