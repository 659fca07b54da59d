//! From a `Service` and its `EndpointSlice`s to a [`Fragment`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::fragment::{Endpoint, Fragment, Frontend, FrontendKind, Protocol};

/// What this service needs. A service that is not ours to serve (headless, `ExternalName`, another proxy's) needs nothing.
pub fn compile<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
) -> Fragment {
    let Some(spec) = service.spec.as_ref().filter(|_| is_ours(service)) else {
        return Fragment::default();
    };
    let mut frontends: Vec<(Frontend, Vec<Endpoint>)> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let endpoints = endpoints(slices.clone(), port.name.as_deref().unwrap_or(""));
        for frontend in frontends_of(service, spec, port) {
            frontends.push((frontend, endpoints.clone()));
        }
    }
    frontends.sort_by_key(|(frontend, _)| *frontend);
    frontends.dedup_by_key(|(frontend, _)| *frontend);
    Fragment { frontends }
}

fn is_ours(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let foreign =
        labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
    let external = service
        .spec
        .as_ref()
        .and_then(|s| s.type_.as_deref())
        .is_some_and(|t| t == "ExternalName");
    !foreign && !external
}

fn frontends_of(service: &Service, spec: &ServiceSpec, port: &ServicePort) -> Vec<Frontend> {
    let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"));
    let (Some(protocol), Some(number)) = (protocol, u16::try_from(port.port).ok()) else {
        return Vec::new();
    };
    let cluster: Vec<Ipv4Addr> = addresses(spec.cluster_ips.iter().flatten());
    // A headless service has no address of its own and is never proxied.
    if cluster.is_empty() {
        return Vec::new();
    }
    let at = |kind| {
        move |address: Ipv4Addr| Frontend {
            kind,
            address,
            protocol,
            port: number,
        }
    };
    let ingress = service.status.iter().flat_map(|s| &s.load_balancer);
    let ingress = ingress
        .flat_map(|l| l.ingress.iter().flatten())
        .filter_map(|i| i.ip.as_ref());
    let external = addresses(spec.external_ips.iter().flatten().chain(ingress));
    let node_port = port
        .node_port
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0);
    let node_port = node_port.map(|port| Frontend {
        kind: FrontendKind::Node,
        address: Ipv4Addr::UNSPECIFIED,
        protocol,
        port,
    });
    cluster
        .into_iter()
        .map(at(FrontendKind::Cluster))
        .chain(external.into_iter().map(at(FrontendKind::External)))
        .chain(node_port)
        .collect()
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The end points of a port: the ready ones or, when there is none, those that still serve while terminating.
fn endpoints<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    port_name: &str,
) -> Vec<Endpoint> {
    let pick = |wanted: fn(&SliceEndpoint) -> bool| -> BTreeSet<Endpoint> {
        slices
            .clone()
            .flat_map(|slice| of_slice(slice, port_name, wanted))
            .collect()
    };
    let ready = pick(is_ready);
    let chosen = if ready.is_empty() {
        pick(serves_while_terminating)
    } else {
        ready
    };
    chosen.into_iter().collect()
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|c| c.ready)
        .unwrap_or(true)
}

fn serves_while_terminating(endpoint: &SliceEndpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|c| c.serving.unwrap_or(false) && c.terminating.unwrap_or(false))
}

fn of_slice(
    slice: &EndpointSlice,
    port_name: &str,
    wanted: fn(&SliceEndpoint) -> bool,
) -> Vec<Endpoint> {
    let ports = slice.ports.iter().flatten();
    let port = ports
        .filter(|p| p.name.as_deref().unwrap_or("") == port_name)
        .find_map(|p| p.port.and_then(|port| u16::try_from(port).ok()));
    let Some(port) = port else { return Vec::new() };
    let endpoints = slice.endpoints.iter().flatten().filter(|e| wanted(e));
    endpoints
        .filter_map(|e| e.addresses.first()?.parse().ok())
        .map(|address| Endpoint { address, port })
        .collect()
}
