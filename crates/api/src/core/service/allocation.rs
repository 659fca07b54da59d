//! What a Service needs handed out before it is stored: cluster addresses, node ports, a health-check port.
//!
//! For the API server, which keeps the books. In a create or an update of a Service, after `prepare_*` and before
//! `validate_*`:
//!
//! 1. [`plan`] with the cluster's IP families (the default one first) says what is needed and settles the family fields, or
//!    says what is wrong (a 422). `old` is `None` in a create.
//! 2. Take each of `needs.cluster_ips` and `needs.node_ports` from the books: the requested value, which may be taken
//!    ([`Needs::ip_refused`], [`Needs::port_refused`] make the errors), or any free one. Ports with the same
//!    [`NodePort::share`] get the same number (one port number, TCP and UDP); a port is booked once, by number.
//! 3. [`Needs::fill`] writes the result into the object; also when nothing had to be taken, for the family fields.
//! 4. When the write is stored, `needs.released_ips` and `needs.released_ports` are free; when it fails, what was taken in
//!    step 2 is free again. A dry run books nothing.
//!
//! A delete frees [`held`]. A rebuild of the books after a restart books [`held`] of every Service.
//!
//! Upstream: `pkg/registry/core/service/storage/alloc.go`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use super::{HEADLESS, families, is_headless, needs_health_check, strategy};
use crate::view::{Items, OrEmpty};

/// An IP family, as `spec.ipFamilies` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `IPv4`
    V4,
    /// `IPv6`
    V6,
}

impl Family {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub fn of(address: &str) -> Option<Self> {
        names::parse_ip_sloppy(address).map(|ip| match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        })
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|f| f.as_str() == name)
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// One cluster address to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIp {
    /// From which range.
    pub family: Family,
    /// Position in `spec.clusterIPs`.
    pub index: usize,
    /// The address asked for; `None`: any free one.
    pub requested: Option<String>,
}

/// One node port to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// Where the number goes: a position in `spec.ports`, or the health check.
    pub target: PortTarget,
    /// Protocol of the port, for messages and books that keep it.
    pub protocol: String,
    /// The number asked for; `None`: any free one.
    pub requested: Option<u16>,
    /// Ports with the same number here share one node port: take it for the first, reuse it for the others.
    pub share: usize,
}

/// Which field a node port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// `spec.ports[index].nodePort`
    Port(usize),
    /// `spec.healthCheckNodePort`
    HealthCheck,
}

/// What has to be taken from the books, and what may go back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Addresses to take.
    pub cluster_ips: Vec<ClusterIp>,
    /// Node ports to take.
    pub node_ports: Vec<NodePort>,
    /// Addresses that are free once the write is stored.
    pub released_ips: Vec<String>,
    /// Node ports that are free once the write is stored.
    pub released_ports: Vec<u16>,
    /// The specification with its family fields settled.
    spec: ServiceSpec,
}

/// Addresses and node ports that a stored Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Cluster addresses.
    pub cluster_ips: Vec<String>,
    /// Node ports, the health check's included, each once.
    pub node_ports: Vec<u16>,
}

/// What a Service holds.
pub fn held(service: &Object) -> Held {
    let spec = service
        .view::<Service>()
        .ok()
        .and_then(|s| s.spec)
        .unwrap_or_default();
    held_by(&spec)
}

fn held_by(spec: &ServiceSpec) -> Held {
    let mut held = Held::default();
    if spec.type_.text() == "ExternalName" {
        return held;
    }
    let listed = spec
        .cluster_ips
        .items()
        .iter()
        .chain(spec.cluster_ip.as_ref());
    for ip in listed.filter(|ip| !ip.is_empty() && *ip != HEADLESS) {
        if !held.cluster_ips.contains(ip) {
            held.cluster_ips.push(ip.clone());
        }
    }
    let ports = spec.ports.items().iter().filter_map(|p| p.node_port);
    for port in ports.chain(spec.health_check_node_port) {
        let Ok(port) = u16::try_from(port) else {
            continue;
        };
        if port != 0 && !held.node_ports.contains(&port) {
            held.node_ports.push(port);
        }
    }
    held
}

/// The server hands out node ports for this Service.
pub fn wants_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.text() {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// Settles the family fields and says what has to be taken. `families` are those of the cluster, the default one first.
///
/// # Errors
/// The families, addresses or the policy asked for do not fit each other or the cluster.
pub fn plan(new: &Object, old: Option<&Object>, families: &[Family]) -> Result<Needs, ErrorList> {
    let view = |object: &Object| object.view::<Service>().map_err(|why| unreadable(&why));
    let mut new = view(new)?;
    let old = old.map(view).transpose()?;
    let before = old.as_ref().and_then(|o| o.spec.as_ref());
    let settled = before.is_some_and(|b| is_settled(new.spec.as_ref(), b));
    if !settled {
        families::settle(&mut new, old.as_ref(), families)?;
    }
    let mut needs = Needs {
        spec: new.spec.unwrap_or_default(),
        ..Needs::default()
    };
    if !settled {
        match before {
            None => needs.all_ips(),
            Some(before) => needs.changed_ips(before),
        }
    }
    match before {
        None => needs.new_ports(),
        Some(before) => needs.changed_ports(before),
    }
    Ok(needs)
}

fn unreadable(why: &serde_json::Error) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.invalid(&Path::new("spec"), Value::Null, why.to_string());
    errors
}

/// A Service that prefers two families and changes none of its addresses stays as it is, whatever the cluster has become.
fn is_settled(new: Option<&ServiceSpec>, old: &ServiceSpec) -> bool {
    let Some(new) = new else { return false };
    let prefers = |spec: &ServiceSpec| spec.ip_family_policy.text() == "PreferDualStack";
    old.type_.text() == new.type_.text()
        && new.type_.text() != "ExternalName"
        && prefers(new)
        && (old.ip_family_policy.is_none() || prefers(old))
        && new.cluster_ips.items() == old.cluster_ips.items()
        && new.ip_families.items() == old.ip_families.items()
}

impl Needs {
    /// Nothing has to be taken.
    pub fn is_empty(&self) -> bool {
        self.cluster_ips.is_empty() && self.node_ports.is_empty()
    }

    fn family_at(&self, index: usize) -> Option<Family> {
        self.spec
            .ip_families
            .items()
            .get(index)
            .and_then(|name| Family::parse(name))
    }

    fn take_ip(&mut self, index: usize) {
        let Some(family) = self.family_at(index) else {
            return;
        };
        let given = self
            .spec
            .cluster_ips
            .items()
            .get(index)
            .filter(|ip| !ip.is_empty());
        let requested = given.cloned();
        self.cluster_ips.push(ClusterIp {
            family,
            index,
            requested,
        });
    }

    fn all_ips(&mut self) {
        if self.spec.type_.text() == "ExternalName"
            || self
                .spec
                .cluster_ips
                .items()
                .first()
                .is_some_and(|ip| ip == HEADLESS)
        {
            return;
        }
        for index in 0..self.spec.ip_families.items().len() {
            self.take_ip(index);
        }
    }

    fn changed_ips(&mut self, old: &ServiceSpec) {
        let external = |spec: &ServiceSpec| spec.type_.text() == "ExternalName";
        match (external(old), external(&self.spec)) {
            (true, true) => {}
            (true, false) => self.all_ips(),
            _ if is_headless(old) => {}
            (false, true) => self
                .released_ips
                .extend(old.cluster_ips.items().iter().cloned()),
            (false, false) => {
                let count = |spec: &ServiceSpec| spec.ip_families.items().len();
                match (count(old), count(&self.spec)) {
                    (1, 2) => self.take_ip(1),
                    (2, 1) => self
                        .released_ips
                        .extend(old.cluster_ips.items().get(1).cloned()),
                    _ => {}
                }
            }
        }
    }

    /// Ports of a new Service: the same port number in two protocols gets one node port.
    fn new_ports(&mut self) {
        let hands_out = wants_node_ports(&self.spec);
        if !matches!(self.spec.type_.text(), "NodePort" | "LoadBalancer") {
            return;
        }
        let ports = self.spec.ports.items().to_vec();
        for (index, port) in ports.iter().enumerate() {
            let own = number(port.node_port);
            if own.is_none() && !hands_out {
                continue;
            }
            let siblings = ports
                .iter()
                .enumerate()
                .filter(|(_, p)| p.port == port.port);
            let mut siblings = siblings.map(|(i, p)| (i, number(p.node_port)));
            let first = siblings.clone().next().map_or(index, |(i, _)| i);
            let named = siblings.find_map(|(_, n)| n);
            let requested = own.or(named);
            // A number of its own, different from its siblings', is taken for itself.
            let share = if requested == named { first } else { index };
            self.push_port(
                PortTarget::Port(index),
                port.protocol.text(),
                requested,
                share,
            );
        }
        if needs_health_check(&self.spec) {
            self.health_check();
        }
    }

    fn changed_ports(&mut self, old: &ServiceSpec) {
        let held = held_by(old).node_ports;
        let hands_out = wants_node_ports(&self.spec);
        let uses = matches!(self.spec.type_.text(), "NodePort" | "LoadBalancer");
        for (index, port) in self.spec.ports.items().to_vec().iter().enumerate() {
            let own = number(port.node_port);
            if !uses || (own.is_none() && !hands_out) || own.is_some_and(|n| held.contains(&n)) {
                continue;
            }
            let same = |taken: &&NodePort| own.is_some() && taken.requested == own;
            let share = self
                .node_ports
                .iter()
                .find(same)
                .map_or(index, |taken| taken.share);
            self.push_port(PortTarget::Port(index), port.protocol.text(), own, share);
        }
        if needs_health_check(&self.spec) && !needs_health_check(old) {
            self.health_check();
        }
        let kept = held_by(&self.spec).node_ports;
        self.released_ports.extend(
            held.into_iter()
                .filter(|port| !uses || !kept.contains(port)),
        );
    }

    fn health_check(&mut self) {
        let requested = number(self.spec.health_check_node_port);
        self.push_port(PortTarget::HealthCheck, "TCP", requested, usize::MAX);
    }

    fn push_port(
        &mut self,
        target: PortTarget,
        protocol: &str,
        requested: Option<u16>,
        share: usize,
    ) {
        let protocol = protocol.to_owned();
        self.node_ports.push(NodePort {
            target,
            protocol,
            requested,
            share,
        });
    }

    /// Writes what was taken into the object: addresses in the order of `cluster_ips`, numbers in that of `node_ports`.
    pub fn fill(&self, service: &mut Object, cluster_ips: &[String], node_ports: &[u16]) {
        let mut spec = self.spec.clone();
        for (need, ip) in self.cluster_ips.iter().zip(cluster_ips) {
            let list = spec.cluster_ips.get_or_insert_default();
            while list.len() <= need.index {
                list.push(String::new());
            }
            list[need.index].clone_from(ip);
            if need.index == 0 {
                spec.cluster_ip = Some(ip.clone());
            }
        }
        for (need, port) in self.node_ports.iter().zip(node_ports) {
            match need.target {
                PortTarget::HealthCheck => spec.health_check_node_port = Some(i32::from(*port)),
                PortTarget::Port(index) => {
                    let slot = spec.ports.as_mut().and_then(|ports| ports.get_mut(index));
                    if let Some(slot) = slot {
                        slot.node_port = Some(i32::from(*port));
                    }
                }
            }
        }
        strategy::write_back(service, &spec);
    }

    /// The error when a requested address cannot be had; `why` is for example `provided IP is already allocated`, or `the
    /// provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16`.
    pub fn ip_refused(&self, need: &ClusterIp, why: &str) -> ErrorList {
        let mut errors = ErrorList::new();
        let ip = need.requested.as_deref().unwrap_or("");
        let shown = self.spec.cluster_ips.items().to_vec();
        let detail = format!("failed to allocate IP {ip}: {why}");
        errors.invalid(&Path::new("spec").child("clusterIPs"), shown, detail);
        errors
    }

    /// The error when a requested node port cannot be had; `why` is for example `provided port is already allocated`, or
    /// `provided port is not in the valid range. The range of valid ports is 30000-32767`.
    pub fn port_refused(&self, need: &NodePort, why: &str) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let path = match need.target {
            PortTarget::Port(index) => path.child("ports").index(index).child("nodePort"),
            PortTarget::HealthCheck => path.child("healthCheckNodePort"),
        };
        errors.invalid(&path, need.requested.unwrap_or(0), why);
        errors
    }
}

fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}
