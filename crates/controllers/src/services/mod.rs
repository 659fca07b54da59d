//! What a Service makes of a pod: which ones it takes, under which address and port.
//!
//! Behaviour: `k8s.io/endpointslice/util` and `pkg/controller/endpoint`, which share it there too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use control::{Caches, Change, Key};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::Selector;

use crate::pods;

/// Value of `clusterIP` of a headless service.
const NONE: &str = "None";

/// An IP family, as an `EndpointSlice` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// `addressType` of the family.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn of(address: &str) -> Option<Self> {
        match address.parse().ok()? {
            IpAddr::V4(_) => Some(Self::V4),
            IpAddr::V6(_) => Some(Self::V6),
        }
    }
}

/// The selector, if the controllers fill this service: neither an alias nor one whose end points come from elsewhere.
pub fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().map(Selector::from_map)
}

/// Whether it has no virtual address.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ip.as_deref(), None | Some("" | NONE))
}

/// Whether it says that it has no virtual address.
pub fn is_declared_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(NONE)
}

/// Whether addresses of pods that are not ready are published as well.
pub fn publishes_not_ready(spec: &ServiceSpec) -> bool {
    spec.publish_not_ready_addresses == Some(true)
}

/// The families in which it is reached, the primary one first.
pub fn families(spec: &ServiceSpec) -> Vec<Family> {
    let declared: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    if !declared.is_empty() {
        return declared;
    }
    let from_address = spec.cluster_ip.as_deref().and_then(Family::of);
    vec![from_address.unwrap_or(Family::V4)]
}

/// The pod's addresses of one family.
pub fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<&str> = match status.pod_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips.iter().map(|ip| ip.ip.as_str()).collect(),
        _ => status.pod_ip.as_deref().into_iter().collect(),
    };
    let of_family = all.into_iter().filter(|ip| Family::of(ip) == Some(family));
    of_family.map(str::to_owned).collect()
}

/// Whether the pod is an end point at all: it has an address, has not ended, and is not leaving (unless that counts).
pub fn takes(pod: &Pod, leaving_counts: bool) -> bool {
    let has_address = [Family::V4, Family::V6]
        .into_iter()
        .any(|family| !addresses(pod, family).is_empty());
    !pods::is_terminal(pod) && has_address && (leaving_counts || !pods::is_deleting(pod))
}

/// The name under which DNS shall find the pod in this service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let named = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    let here = spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    here.then(|| named.clone())
}

/// The number of the port on this pod, looked up by name among its containers where it has one.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let fits = |p: &&ContainerPort| {
                p.name.as_deref() == Some(name)
                    && p.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            let spec = pod.spec.as_ref()?;
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| is_sidecar(c));
            let containers = spec.containers.iter().chain(sidecars);
            let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
            ports.find(fits).map(|p| p.container_port)
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// All that end points are made of; a pod whose picture stays the same wakes nobody.
#[derive(PartialEq)]
struct Picture<'a> {
    labels: Option<&'a BTreeMap<String, String>>,
    uid: Option<&'a str>,
    node: &'a str,
    addresses: [Vec<String>; 2],
    flags: [bool; 3],
    names: [Option<&'a str>; 2],
}

fn picture(pod: &Pod) -> Picture<'_> {
    let spec = pod.spec.as_ref();
    Picture {
        labels: pod.metadata.labels.as_ref(),
        uid: pod.metadata.uid.as_deref(),
        node: pods::node_name(pod),
        addresses: [addresses(pod, Family::V4), addresses(pod, Family::V6)],
        flags: [
            pods::is_terminal(pod),
            pods::is_deleting(pod),
            pods::is_ready(pod),
        ],
        names: [
            spec.and_then(|s| s.hostname.as_deref()),
            spec.and_then(|s| s.subdomain.as_deref()),
        ],
    }
}

/// The services that a change of a pod concerns.
pub fn keys_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && picture(old) == picture(new)
    {
        return Vec::new();
    }
    let pod = change.latest();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |service: &Service| {
        selector(service).is_some_and(|selector| {
            change
                .sides()
                .any(|pod| selector.matches_map(pod.metadata.labels.as_ref()))
        })
    };
    let services = caches.of::<Service>().in_namespace(namespace);
    let touched = services.iter().filter(|s| selects(s));
    touched.map(|s| Key::of(s.as_ref())).collect()
}

#[cfg(test)]
pub(crate) mod tests;
