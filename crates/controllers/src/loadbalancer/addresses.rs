//! Which addresses a Service gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use control::Key;
use k8s_openapi::api::core::v1::{Node, Service};

use super::observe::{Balanced, is_wanted};
use super::{ANNOUNCED_BY, Addresses, Observed};

/// What a Service shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Its addresses.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The node that answers for them, where it is one.
    pub(super) node: Option<String>,
}

/// What every Service that wants addresses shall have, or why it cannot; in the order of the observation.
pub(super) fn give(o: &Observed) -> Vec<Option<Result<Given, String>>> {
    match &o.addresses {
        Addresses::Pool(ranges) => from_pool(&o.services, ranges),
        Addresses::Nodes { reserved } => of_nodes(&o.services, reserved),
    }
}

/// The addresses in the Service's status.
pub(super) fn present(service: &Service) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref();
    let ingress = status.and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    let ips = ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

fn from_pool(
    services: &[Balanced],
    ranges: &[RangeInclusive<Ipv4Addr>],
) -> Vec<Option<Result<Given, String>>> {
    let in_pool = |address: &Ipv4Addr| ranges.iter().any(|range| range.contains(address));
    let mut taken = BTreeSet::new();
    // Who has one keeps it, whoever else comes; of two with the same one the older.
    let kept: Vec<Option<Ipv4Addr>> = services
        .iter()
        .map(|balanced| {
            let wished = wish(&balanced.service);
            let has = present(&balanced.service).into_iter().find(in_pool)?;
            let fits = wished.is_none_or(|wished| wished == Ok(has));
            (is_wanted(&balanced.service) && fits && taken.insert(has)).then_some(has)
        })
        .collect();
    let mut give = |balanced: &Balanced, kept: Option<Ipv4Addr>| {
        let address = match (kept, wish(&balanced.service)) {
            (Some(address), _) => address,
            (None, Some(Err(text))) => return Err(format!("{text} is no IPv4 address")),
            (None, Some(Ok(wished))) if !in_pool(&wished) => {
                return Err(format!("{wished} is not an address of this load balancer"));
            }
            (None, Some(Ok(wished))) if taken.contains(&wished) => {
                return Err(format!("{wished} is taken by another service"));
            }
            (None, Some(Ok(wished))) => wished,
            (None, None) => free(ranges, &taken).ok_or("all addresses are taken")?,
        };
        taken.insert(address);
        Ok(Given {
            addresses: vec![address],
            node: announcer(balanced),
        })
    };
    let pairs = services.iter().zip(kept);
    pairs
        .map(|(balanced, kept)| is_wanted(&balanced.service).then(|| give(balanced, kept)))
        .collect()
}

/// The address that the Service asks for, or what it has written instead of one.
fn wish(service: &Service) -> Option<Result<Ipv4Addr, String>> {
    let wish = service.spec.as_ref()?.load_balancer_ip.as_ref()?;
    let parsed = wish.parse().map_err(|_| wish.clone());
    (!wish.is_empty()).then_some(parsed)
}

fn free(ranges: &[RangeInclusive<Ipv4Addr>], taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let all = ranges.iter().flat_map(|range| {
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        (first..=last).map(Ipv4Addr::from)
    });
    all.into_iter().find(|address| !taken.contains(address))
}

/// The node that answers: the one that does already, if it still may; otherwise one that depends on the Service, so that
/// several of them spread. When no node may, it stays with the last one.
fn announcer(balanced: &Balanced) -> Option<String> {
    let annotations = balanced.service.metadata.annotations.as_ref();
    let present = annotations.and_then(|a| a.get(ANNOUNCED_BY)).cloned();
    let names = balanced
        .nodes
        .iter()
        .filter_map(|n| n.metadata.name.clone());
    let names: Vec<String> = names.collect();
    if names.is_empty() || present.as_ref().is_some_and(|p| names.contains(p)) {
        return present;
    }
    let key = Key::of(balanced.service.as_ref()).to_string();
    names.into_iter().max_by_key(|name| weight(&key, name))
}

/// FNV-1a of both names: the highest of all nodes wins (rendezvous hashing).
fn weight(service: &str, node: &str) -> u64 {
    let bytes = service.bytes().chain([0]).chain(node.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn of_nodes(services: &[Balanced], reserved: &[u16]) -> Vec<Option<Result<Given, String>>> {
    let mut owners: BTreeMap<(String, i32), Key> = BTreeMap::new();
    let give = |balanced: &Balanced| {
        let service = &balanced.service;
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let ports: Vec<(String, i32)> = ports
            .map(|p| (p.protocol.clone().unwrap_or_else(|| "TCP".into()), p.port))
            .collect();
        for port in &ports {
            let (protocol, number) = port;
            if protocol == "TCP" && reserved.iter().any(|r| i32::from(*r) == *number) {
                return Err(format!("port {number}/{protocol} is used by the nodes"));
            }
            if let Some(owner) = owners.get(port) {
                return Err(format!(
                    "port {number}/{protocol} is used by service {owner}"
                ));
            }
        }
        let key = Key::of(service.as_ref());
        owners.extend(ports.into_iter().map(|port| (port, key.clone())));
        let mut addresses: Vec<Ipv4Addr> = balanced.nodes.iter().filter_map(address).collect();
        addresses.sort_unstable();
        if addresses.is_empty() {
            // Nodes that are away for a moment are no reason to take addresses away.
            addresses = present(service);
        }
        Ok(Given {
            addresses,
            node: None,
        })
    };
    let wanted = services.iter().map(|b| is_wanted(&b.service).then_some(b));
    let mut give = give;
    wanted.map(|balanced| balanced.map(&mut give)).collect()
}

/// The address under which a node is reached from elsewhere: the external one if it has it.
fn address(node: &Arc<Node>) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let of = |kind: &str| {
        let mut all = addresses.iter().filter(|a| a.type_ == kind);
        all.find_map(|a| a.address.parse().ok())
    };
    of("ExternalIP").or_else(|| of("InternalIP"))
}
