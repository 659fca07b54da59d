//! What the zone knows of each service.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// A named port of a service or of an end point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; unnamed ports have no SRV record of their own.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The number.
    pub number: u16,
}

/// One end point that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The label below the service: the pod's host name, or its address with dashes.
    pub label: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// What one service looks like to a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRecords {
    /// It has addresses of its own.
    Cluster {
        /// Those addresses.
        addresses: Vec<Ipv4Addr>,
        /// Its ports.
        ports: Vec<Port>,
        /// Its end points, which have names below its own.
        endpoints: Vec<Endpoint>,
    },
    /// It stands for its end points.
    Headless(Vec<Endpoint>),
    /// It is another name.
    External(String),
}

/// The zone of one cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The cluster's domain as lower-case labels, for example `cluster`, `local`.
    pub(crate) domain: Vec<String>,
    /// By name-space and name.
    pub(crate) services: HashMap<(String, String), ServiceRecords>,
    /// How many services a name-space has.
    pub(crate) namespaces: HashMap<String, usize>,
    /// Names of addresses: label paths below the domain.
    pub(crate) pointers: HashMap<Ipv4Addr, BTreeSet<Vec<String>>>,
    /// Grows with every change; the SOA's serial.
    pub(crate) serial: u32,
}

impl Zone {
    /// An empty zone for a domain such as `cluster.local`.
    pub fn new(domain: &str) -> Self {
        let labels = domain.trim_matches('.').split('.');
        Self {
            domain: labels.map(str::to_ascii_lowercase).collect(),
            services: HashMap::new(),
            namespaces: HashMap::new(),
            pointers: HashMap::new(),
            serial: 1,
        }
    }

    /// Sets (or, with `None`, removes) a service's records.
    pub fn set(&mut self, key: &(String, String), records: Option<ServiceRecords>) {
        if self.services.get(key) == records.as_ref() {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        if let Some(old) = self.services.remove(key) {
            for (address, name) in pointers(key, &old) {
                if let Some(names) = self.pointers.get_mut(&address) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.pointers.remove(&address);
                    }
                }
            }
            let count = self.namespaces.get_mut(&key.0).expect("counted when added");
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&key.0);
            }
        }
        if let Some(new) = records {
            for (address, name) in pointers(key, &new) {
                self.pointers.entry(address).or_default().insert(name);
            }
            *self.namespaces.entry(key.0.clone()).or_insert(0) += 1;
            self.services.insert(key.clone(), new);
        }
    }
}

/// Which addresses lead back to which names.
fn pointers(key: &(String, String), records: &ServiceRecords) -> Vec<(Ipv4Addr, Vec<String>)> {
    let base = vec![key.1.clone(), key.0.clone(), "svc".to_owned()];
    let below = |e: &Endpoint| (e.address, [vec![e.label.clone()], base.clone()].concat());
    match records {
        ServiceRecords::Cluster {
            addresses,
            endpoints,
            ..
        } => {
            let own = addresses.iter().map(|address| (*address, base.clone()));
            own.chain(endpoints.iter().map(below)).collect()
        }
        ServiceRecords::Headless(endpoints) => endpoints.iter().map(below).collect(),
        ServiceRecords::External(_) => Vec::new(),
    }
}

/// The records of a service with these slices.
pub fn compile<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Option<ServiceRecords> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().map(ServiceRecords::External);
    }
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
    let endpoints = slices
        .flat_map(|slice| endpoints(slice, publish_not_ready))
        .collect();
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(ServiceRecords::Headless(endpoints));
    }
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port));
    Some(ServiceRecords::Cluster {
        addresses,
        ports: ports.collect(),
        endpoints,
    })
}

fn endpoints(slice: &EndpointSlice, publish_not_ready: bool) -> Vec<Endpoint> {
    let ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port?))
        .collect();
    let mut found = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|c| c.ready)
            .unwrap_or(true);
        if !(ready || publish_not_ready) {
            continue;
        }
        for address in endpoint
            .addresses
            .iter()
            .filter_map(|a| a.parse::<Ipv4Addr>().ok())
        {
            let dashed = || address.to_string().replace('.', "-");
            let label = endpoint.hostname.clone().unwrap_or_else(dashed);
            found.push(Endpoint {
                label,
                address,
                ports: ports.clone(),
            });
        }
    }
    found
}

fn port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or("").to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number).ok()?,
    })
}
