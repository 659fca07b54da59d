//! The rules that pods need of the node's firewall: masquerading what leaves the cluster, and published host ports.
//!
//! A host port matches only packets to an address of this node (lesson of CVE-2025-67499: never everything that passes).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use ipnet::Ipv4Net;
use nft::model::{Data, KeyPart, Register, Value};
use nft::{Batch, Chain, Change, Expr, Hook, Rule, Set, Verdict};

/// The table that holds the pod network's rules.
pub const TABLE: &str = "oxikube-pods";
/// `RTN_LOCAL`.
const LOCAL_ADDRESS: u32 = 2;

/// A port of the node that leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Transport protocol by IANA number: 6, 17 or 132.
    pub protocol: u8,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub pod_port: u16,
    /// Only on this address of the node; `None`: on all of them.
    pub address: Option<Ipv4Addr>,
}

/// The ports that are open on all addresses of the node, and those on one address: two pods may share a port whose
/// addresses differ.
const ANYWHERE: &str = "host-ports";
const AT_ADDRESS: &str = "host-ports-at";

/// A map and a key in it.
type Place = (&'static str, Vec<u8>);

/// The published ports of each sandbox.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    published: Mutex<HashMap<String, Vec<Place>>>,
}

impl Rules {
    /// Makes the table anew.
    pub(crate) fn start(&self, pod_cidr: Ipv4Net, cluster_cidr: Ipv4Net) -> Result<(), nft::Error> {
        self.published.lock().expect("no panic while held").clear();
        let mut batch = Batch::new(TABLE);
        batch.changes = vec![Change::AddTable, Change::DeleteTable, Change::AddTable];
        let port = [KeyPart::Protocol, KeyPart::Port];
        let at = [KeyPart::Address, KeyPart::Protocol, KeyPart::Port];
        for (name, key) in [(ANYWHERE, &port[..]), (AT_ADDRESS, &at)] {
            batch.changes.push(Change::AddSet(Set {
                name: name.into(),
                key: key.to_vec(),
                data: Data::AddressAndPort,
            }));
        }
        let base = |name: &str, hook, priority| {
            Change::AddChain(Chain {
                name: name.into(),
                base: Some(("nat", hook, priority)),
            })
        };
        batch.changes.extend([
            Change::AddChain(Chain {
                name: "host-ports".into(),
                base: None,
            }),
            base("prerouting", Hook::Prerouting, -101),
            base("output", Hook::Output, -101),
            base("postrouting", Hook::Postrouting, 101),
        ]);
        let jump = || Rule(vec![Expr::Verdict(Verdict::Jump("host-ports".into()))]);
        batch.changes.extend([
            Change::AddRule("prerouting".into(), jump()),
            Change::AddRule("output".into(), jump()),
            Change::AddRule("host-ports".into(), to_port_at_address()),
            Change::AddRule("host-ports".into(), to_published_port()),
            Change::AddRule(
                "postrouting".into(),
                leaves_the_cluster(pod_cidr, cluster_cidr),
            ),
        ]);
        nft::commit(&batch)
    }

    /// Opens the sandbox's host ports.
    pub(crate) fn publish(
        &self,
        id: &str,
        address: Ipv4Addr,
        ports: &[HostPort],
    ) -> Result<(), nft::Error> {
        if ports.is_empty() {
            return Ok(());
        }
        self.withdraw(id)?;
        let mut batch = Batch::new(TABLE);
        for port in ports {
            let mut data = address.octets().to_vec();
            data.extend(port.pod_port.to_be_bytes());
            data.extend([0, 0]);
            let (map, key) = place(port);
            let element = vec![(key, Value::Data(data))];
            batch.changes.push(Change::AddElements(map.into(), element));
        }
        nft::commit(&batch)?;
        let mut published = self.published.lock().expect("no panic while held");
        published.insert(id.to_owned(), ports.iter().map(place).collect());
        Ok(())
    }

    /// Closes them again.
    pub(crate) fn withdraw(&self, id: &str) -> Result<(), nft::Error> {
        let mut published = self.published.lock().expect("no panic while held");
        let Some(places) = published.get(id) else {
            return Ok(());
        };
        let mut batch = Batch::new(TABLE);
        for (map, key) in places {
            let change = Change::DeleteElements((*map).into(), vec![key.clone()]);
            batch.changes.push(change);
        }
        nft::commit(&batch)?;
        published.remove(id);
        Ok(())
    }
}

fn place(port: &HostPort) -> Place {
    let (map, mut key) = match port.address {
        Some(address) => (AT_ADDRESS, address.octets().to_vec()),
        None => (ANYWHERE, Vec::new()),
    };
    key.extend([port.protocol, 0, 0, 0]);
    key.extend(port.host_port.to_be_bytes());
    key.extend([0, 0]);
    (map, key)
}

fn to_published_port() -> Rule {
    let mut steps = to_this_node();
    steps.extend(protocol_and_port(0));
    steps.extend([Expr::Map(0, ANYWHERE.into(), 0), Expr::Dnat(0, 1)]);
    Rule(steps)
}

fn to_port_at_address() -> Rule {
    let mut steps = to_this_node();
    steps.push(Expr::Network {
        offset: 16,
        len: 4,
        to: 0,
    });
    steps.extend(protocol_and_port(1));
    steps.extend([Expr::Map(0, AT_ADDRESS.into(), 0), Expr::Dnat(0, 1)]);
    Rule(steps)
}

fn to_this_node() -> Vec<Expr> {
    vec![
        Expr::DestinationType(0),
        Expr::Equal(0, LOCAL_ADDRESS.to_ne_bytes().to_vec()),
    ]
}

fn protocol_and_port(to: Register) -> [Expr; 2] {
    let port = Expr::Transport {
        offset: 2,
        len: 2,
        to: to + 1,
    };
    [Expr::Protocol(to), port]
}

fn leaves_the_cluster(pod_cidr: Ipv4Net, cluster_cidr: Ipv4Net) -> Rule {
    let masked = |offset, net: Ipv4Net| {
        let mask = net.netmask().octets().to_vec();
        [
            Expr::Network {
                offset,
                len: 4,
                to: 0,
            },
            Expr::Bitwise(0, mask, vec![0; 4]),
        ]
    };
    let network = |net: Ipv4Net| net.network().octets().to_vec();
    let mut steps = Vec::new();
    steps.extend(masked(12, pod_cidr));
    steps.push(Expr::Equal(0, network(pod_cidr)));
    steps.extend(masked(16, cluster_cidr));
    steps.push(Expr::NotEqual(0, network(cluster_cidr)));
    // Multicast stays as it is.
    steps.extend([
        Expr::Network {
            offset: 16,
            len: 1,
            to: 0,
        },
        Expr::Bitwise(0, vec![0xf0], vec![0]),
        Expr::NotEqual(0, vec![0xe0]),
        Expr::Masquerade,
    ]);
    Rule(steps)
}
