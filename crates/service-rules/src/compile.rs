//! From a `Service` and its `EndpointSlice`s to a [`Fragment`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::cidr::Cidr;
use crate::endpoints::{Choice, choose};
use crate::fragment::{Backends, Endpoint, Fragment, Frontend, FrontendKind, Protocol, Reach};

/// Seconds that a client stays with its end point when the service does not say.
const AFFINITY_SECONDS: u32 = 10_800;

/// The node for which rules are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Its name.
    pub node: String,
    /// Its `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// What this service needs. A service that is not ours to serve (headless, `ExternalName`, another proxy's) needs nothing.
pub fn compile<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    here: &Here,
) -> Fragment {
    let Some(spec) = service.spec.as_ref().filter(|_| is_ours(service)) else {
        return Fragment::default();
    };
    // A headless service has no address of its own and is never proxied.
    let cluster = addresses(spec.cluster_ips.iter().flatten());
    if cluster.is_empty() {
        return Fragment::default();
    }
    let mut frontends = BTreeMap::new();
    let mut local_ready = 0;
    for port in spec.ports.iter().flatten() {
        let choice = choose(slices.clone(), port.name.as_deref().unwrap_or(""), here);
        local_ready = local_ready.max(choice.local_ready);
        let doors = Doors {
            service,
            spec,
            port,
            here,
            choice,
        };
        for (frontend, backends) in doors.all(&cluster) {
            // Of two doors at one place the earlier kind counts.
            frontends.entry(frontend).or_insert(backends);
        }
    }
    let check = spec.health_check_node_port.filter(|_| {
        spec.type_.as_deref() == Some("LoadBalancer") && is_local(&spec.external_traffic_policy)
    });
    let check = check.and_then(|port| u16::try_from(port).ok());
    Fragment {
        frontends: frontends.into_iter().collect(),
        health_check: check.filter(|p| *p > 0).map(|port| (port, local_ready)),
    }
}

fn is_ours(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let foreign =
        labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
    let kind = service.spec.as_ref().and_then(|s| s.type_.as_deref());
    !foreign && kind != Some("ExternalName")
}

fn is_local(policy: &Option<String>) -> bool {
    policy.as_deref() == Some("Local")
}

/// The IPv4 addresses among these. 0.0.0.0, which nobody may claim, stands for node ports here.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    let all = texts.filter_map(|text| text.parse().ok());
    all.filter(|address: &Ipv4Addr| !address.is_unspecified())
        .collect()
}

/// The addresses that a load balancer has given the service and that are answered here.
pub fn load_balancer_addresses(service: &Service) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref();
    let ingress = status.and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    let ingress = ingress.into_iter().flatten();
    let here = ingress.filter(|i| i.ip_mode.as_deref().unwrap_or("VIP") == "VIP");
    addresses(here.filter_map(|i| i.ip.as_ref()))
}

/// The doors of one port.
struct Doors<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a ServicePort,
    here: &'a Here,
    choice: Choice,
}

impl Doors<'_> {
    fn all(&self, cluster: &[Ipv4Addr]) -> Vec<(Frontend, Backends)> {
        let protocol = Protocol::parse(self.port.protocol.as_deref().unwrap_or("TCP"));
        let (Some(protocol), Ok(port)) = (protocol, u16::try_from(self.port.port)) else {
            return Vec::new();
        };
        let at = |address: Ipv4Addr, port| Frontend {
            address,
            protocol,
            port,
        };
        let balanced = load_balancer_addresses(self.service);
        let node_port = self.port.node_port.and_then(|p| u16::try_from(p).ok());
        let node_port = node_port.filter(|port| *port > 0);
        let mut doors = Vec::new();
        let mut open = |kind, frontend, sources| {
            let backends = self.backends(kind, protocol);
            doors.push((
                frontend,
                Backends {
                    sources,
                    ..backends
                },
            ));
        };
        for address in cluster {
            open(FrontendKind::Cluster, at(*address, port), None);
        }
        if let Some(port) = node_port {
            open(FrontendKind::Node, at(Ipv4Addr::UNSPECIFIED, port), None);
        }
        // The ranges stand for the load balancer's addresses only, so those come first.
        for address in &balanced {
            let sources = self.sources(&balanced);
            open(FrontendKind::External, at(*address, port), sources);
        }
        for address in addresses(self.spec.external_ips.iter().flatten()) {
            open(FrontendKind::External, at(address, port), None);
        }
        doors
    }

    fn backends(&self, kind: FrontendKind, protocol: Protocol) -> Backends {
        let affine = self.spec.session_affinity.as_deref() == Some("ClientIP");
        let config = self.spec.session_affinity_config.as_ref();
        let seconds = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        let seconds = seconds
            .and_then(|s| u32::try_from(s).ok())
            .filter(|s| *s > 0);
        let serving: &[Endpoint] = match protocol {
            Protocol::Udp => &self.choice.serving,
            Protocol::Tcp | Protocol::Sctp => &[],
        };
        Backends {
            kind,
            reach: self.reach(kind),
            affinity: affine.then(|| seconds.unwrap_or(AFFINITY_SECONDS)),
            sources: None,
            serving: serving.to_vec(),
        }
    }

    fn reach(&self, kind: FrontendKind) -> Reach {
        let Choice { cluster, local, .. } = &self.choice;
        if cluster.is_empty() {
            return Reach::Nowhere;
        }
        match kind {
            FrontendKind::Cluster if !is_local(&self.spec.internal_traffic_policy) => {
                Reach::Spread(cluster.clone())
            }
            FrontendKind::Cluster if local.is_empty() => Reach::Elsewhere,
            FrontendKind::Cluster => Reach::Spread(local.clone()),
            FrontendKind::Node | FrontendKind::External
                if is_local(&self.spec.external_traffic_policy) =>
            {
                Reach::Preserve {
                    cluster: cluster.clone(),
                    local: local.clone(),
                }
            }
            FrontendKind::Node | FrontendKind::External => Reach::Spread(cluster.clone()),
        }
    }

    /// Who may come in by a load balancer's address. Where the node itself may, the balancer's own addresses may as well:
    /// the node's packets to an address that is its own carry it as their source.
    fn sources(&self, balanced: &[Ipv4Addr]) -> Option<Vec<Cidr>> {
        let ranges = self.spec.load_balancer_source_ranges.as_ref()?;
        if ranges.is_empty() {
            return None;
        }
        let mut sources: Vec<Cidr> = ranges.iter().filter_map(|r| r.parse().ok()).collect();
        let node = self.here.addresses.iter();
        if node.clone().any(|a| sources.iter().any(|s| s.contains(*a))) {
            sources.extend(balanced.iter().copied().map(Cidr::host));
        }
        sources.sort_unstable();
        sources.dedup_by_key(|s| (s.network(), s.prefix));
        Some(sources)
    }
}
