//! One pod as an end point, and the ports it is reached on.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};

use super::Observed;
use crate::pods;
use crate::services::{self, Family};

/// End points that share the same ports.
pub(super) struct Group {
    /// The ports, sorted.
    pub(super) ports: Vec<EndpointPort>,
    /// The end points, with the pod each one stands for.
    pub(super) endpoints: Vec<(Endpoint, Arc<Pod>)>,
}

/// The wanted end points of one family, grouped by ports.
pub(super) fn groups(o: &Observed, spec: &ServiceSpec, family: Family) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let all = services::publishes_not_ready(spec);
    for pod in o.pods.iter().filter(|p| services::takes(p, true)) {
        let addresses = services::addresses(pod, family);
        // A pod of a node that is gone is about to be collected, and nobody knows whether it runs.
        let node_known = o.zones.contains_key(pods::node_name(pod));
        if addresses.is_empty() || !(node_known || all) {
            continue;
        }
        let ports = ports(spec, pod);
        let endpoint = endpoint(o, spec, pod, addresses);
        let group = groups.entry(port_key(&ports)).or_insert_with(|| Group {
            ports,
            endpoints: Vec::new(),
        });
        group.endpoints.push((endpoint, Arc::clone(pod)));
    }
    groups.into_values().collect()
}

/// What makes two lists of ports the same.
pub(crate) fn port_key(ports: &[EndpointPort]) -> String {
    let mut parts: Vec<String> = ports
        .iter()
        .map(|p| {
            let name = p.name.as_deref().unwrap_or_default();
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            format!("{name}/{protocol}/{:?}/{:?}", p.port, p.app_protocol)
        })
        .collect();
    parts.sort();
    parts.join(",")
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(services::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

fn endpoint(o: &Observed, spec: &ServiceSpec, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), pods::is_deleting(pod));
    let ready = services::publishes_not_ready(spec) || (serving && !terminating);
    let node = pods::node_name(pod);
    let zone = o.zones.get(node).cloned().flatten();
    let meta = &pod.metadata;
    let service: &Service = &o.service;
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(spec, ready, node, zone.as_deref()),
        hostname: services::hostname(pod, service),
        node_name: Some(node.to_owned()).filter(|n| !n.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        deprecated_topology: None,
    }
}

/// Where `trafficDistribution` wants this end point to be used.
fn hints(spec: &ServiceSpec, ready: bool, node: &str, zone: Option<&str>) -> Option<EndpointHints> {
    let wish = spec.traffic_distribution.as_deref().filter(|_| ready)?;
    let for_zones = zone.map(|zone| {
        vec![ForZone {
            name: zone.to_owned(),
        }]
    });
    match wish {
        "PreferClose" | "PreferSameZone" => for_zones.map(|for_zones| EndpointHints {
            for_zones: Some(for_zones),
            for_nodes: None,
        }),
        "PreferSameNode" if !node.is_empty() => Some(EndpointHints {
            for_zones,
            for_nodes: Some(vec![ForNode {
                name: node.to_owned(),
            }]),
        }),
        _ => None,
    }
}
