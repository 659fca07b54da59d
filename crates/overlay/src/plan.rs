//! From nodes to what the kernel must know, and from one picture of it to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

use crate::lease::{self, Lease, Unusable};
use crate::{Backend, Mac};

/// The node that plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub node: String,
    /// Addresses of its pods.
    pub pods: Ipv4Net,
    /// Addresses of all pods.
    pub cluster: Ipv4Net,
    /// The address under which other nodes reach it.
    pub public_ip: Ipv4Addr,
    /// The network of the link with that address.
    pub link: Ipv4Net,
    /// How packets travel.
    pub backend: Backend,
}

impl Own {
    /// The address of its end of the virtual network.
    pub fn mac(&self) -> Mac {
        Mac::of_node(self.public_ip)
    }

    /// The address of its tunnel device: the first of its pods', which no pod has.
    pub fn tunnel_address(&self) -> Ipv4Addr {
        self.pods.network()
    }
}

/// How a packet leaves for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// By the tunnel device, to the neighbour of this address on it.
    Tunnel(Ipv4Addr),
    /// By the tunnel device, as it is.
    Device,
    /// By another node on the same link.
    Gateway(Ipv4Addr),
    /// Not at all, and the sender is told: pod addresses that nobody has must not leave the cluster.
    Nowhere,
}

/// Where datagrams with packets go: other nodes by their pods' addresses. Networks do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(BTreeMap<Ipv4Addr, (Ipv4Net, Ipv4Addr)>);

impl Peers {
    /// The node that has a pod address.
    pub fn node_of(&self, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        let (_, (network, node)) = self.0.range(..=pod).next_back()?;
        network.contains(&pod).then_some(*node)
    }

    /// The address is one of the nodes'.
    pub fn has_node(&self, address: Ipv4Addr) -> bool {
        self.0.values().any(|(_, node)| *node == address)
    }

    fn add(&mut self, lease: &Lease) {
        let at = (lease.pods, lease.public_ip);
        self.0.insert(lease.pods.network(), at);
    }
}

/// What the kernel (and for UDP the tunnel) knows of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Where packets for a network go.
    pub routes: BTreeMap<Ipv4Net, Via>,
    /// Neighbours on the tunnel device.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// On which node an end of the virtual network is.
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
    /// For UDP.
    pub peers: Peers,
}

/// One step from a picture to another. What is set replaces what there was for the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Send packets for a network there.
    SetRoute(Ipv4Net, Via),
    /// Forget the network.
    RemoveRoute(Ipv4Net, Via),
    /// The neighbour of this address is that device.
    SetNeighbour(Ipv4Addr, Mac),
    /// Forget the neighbour.
    RemoveNeighbour(Ipv4Addr, Mac),
    /// That device is on this node.
    SetForwarding(Mac, Ipv4Addr),
    /// Forget where the device is.
    RemoveForwarding(Mac, Ipv4Addr),
}

/// What should be, and which nodes are left out for which reason.
pub fn plan<'a>(
    own: &Own,
    nodes: impl IntoIterator<Item = &'a Node>,
) -> (Picture, BTreeMap<String, Unusable>) {
    let mut picture = Picture::default();
    let mut problems = BTreeMap::new();
    picture.routes.insert(own.cluster, Via::Nowhere);
    let mut nodes: Vec<&Node> = nodes.into_iter().collect();
    // Of two nodes that claim an address the one with the earlier name has it: on every node the same one.
    nodes.sort_by_key(|node| node.metadata.name.as_deref());
    let mut taken = BTreeMap::from([(own.pods.network(), own.pods)]);
    let mut ends = BTreeSet::from([own.mac()]);
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        if name == own.node {
            continue;
        }
        let lease = lease::read(node, own).and_then(|lease| claim(lease, &mut taken, &mut ends));
        match lease {
            Ok(lease) => add(&mut picture, own.backend, &lease),
            Err(problem) => drop(problems.insert(name, problem)),
        }
    }
    (picture, problems)
}

/// The lease, unless somebody else has its pods' addresses or its device's.
fn claim(
    lease: Lease,
    taken: &mut BTreeMap<Ipv4Addr, Ipv4Net>,
    ends: &mut BTreeSet<Mac>,
) -> Result<Lease, Unusable> {
    let pods = lease.pods;
    let before = taken.range(..=pods.broadcast()).next_back();
    // Networks either contain each other or have nothing in common.
    if before.is_some_and(|(_, other)| other.broadcast() >= pods.network()) {
        return Err(Unusable::Overlap(pods));
    }
    if lease.mac.is_some_and(|mac| !ends.insert(mac)) {
        return Err(Unusable::Overlap(pods));
    }
    taken.insert(pods.network(), pods);
    Ok(lease)
}

fn add(picture: &mut Picture, backend: Backend, lease: &Lease) {
    let gateway = lease.pods.network();
    let via = match (backend, lease.mac) {
        (Backend::Vxlan, Some(mac)) => {
            picture.neighbours.insert(gateway, mac);
            picture.forwarding.insert(mac, lease.public_ip);
            Via::Tunnel(gateway)
        }
        (Backend::HostGw, _) => Via::Gateway(lease.public_ip),
        (Backend::Vxlan | Backend::Udp, _) => {
            picture.peers.add(lease);
            Via::Device
        }
    };
    picture.routes.insert(lease.pods, via);
}

/// The steps that lead from what is to what should be: nothing is taken away that stays, and a route appears only when
/// everything behind it is there.
pub fn diff(present: &Picture, desired: &Picture) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = |(net, via): (&Ipv4Net, &Via)| Change::RemoveRoute(*net, *via);
    changes.extend(missing(&present.routes, &desired.routes).map(gone));
    let gone = |(address, mac): (&Ipv4Addr, &Mac)| Change::RemoveNeighbour(*address, *mac);
    changes.extend(missing(&present.neighbours, &desired.neighbours).map(gone));
    // A device that has moved must be forgotten at its old place: the kernel keeps a list.
    let moved = differing(&present.forwarding, &desired.forwarding);
    changes.extend(moved.map(|(mac, node)| Change::RemoveForwarding(*mac, *node)));
    let new = differing(&desired.forwarding, &present.forwarding);
    changes.extend(new.map(|(mac, node)| Change::SetForwarding(*mac, *node)));
    let new = differing(&desired.neighbours, &present.neighbours);
    changes.extend(new.map(|(address, mac)| Change::SetNeighbour(*address, *mac)));
    let new = differing(&desired.routes, &present.routes);
    changes.extend(new.map(|(net, via)| Change::SetRoute(*net, *via)));
    changes
}

/// Entries of one map whose key the other lacks.
fn missing<'a, K: Ord, V>(
    of: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    of.iter().filter(|(key, _)| !other.contains_key(key))
}

/// Entries of one map that the other lacks or has otherwise.
fn differing<'a, K: Ord, V: PartialEq>(
    of: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    of.iter()
        .filter(|(key, value)| other.get(key) != Some(value))
}
