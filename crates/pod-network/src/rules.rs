//! The rules that pods need of the node's firewall: masquerading what leaves the cluster, and published host ports.
//!
//! A host port matches only packets to an address of this node (lesson of CVE-2025-67499: never everything that passes).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use ipnet::Ipv4Net;
use nft::model::{Data, KeyPart, Value};
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
}

/// The published ports of each sandbox.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    published: Mutex<HashMap<String, Vec<Vec<u8>>>>,
}

impl Rules {
    /// Makes the table anew.
    pub(crate) fn start(&self, pod_cidr: Ipv4Net, cluster_cidr: Ipv4Net) -> Result<(), nft::Error> {
        self.published.lock().expect("no panic while held").clear();
        let mut batch = Batch::new(TABLE);
        batch.changes = vec![Change::AddTable, Change::DeleteTable, Change::AddTable];
        batch.changes.push(Change::AddSet(Set {
            name: "host-ports".into(),
            key: vec![KeyPart::Protocol, KeyPart::Port],
            data: Data::AddressAndPort,
        }));
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
        let element = |port: &HostPort| {
            let mut data = address.octets().to_vec();
            data.extend(port.pod_port.to_be_bytes());
            data.extend([0, 0]);
            (key(port), Value::Data(data))
        };
        let elements = ports.iter().map(element).collect();
        let mut batch = Batch::new(TABLE);
        batch
            .changes
            .push(Change::AddElements("host-ports".into(), elements));
        nft::commit(&batch)?;
        let mut published = self.published.lock().expect("no panic while held");
        published.insert(id.to_owned(), ports.iter().map(key).collect());
        Ok(())
    }

    /// Closes them again.
    pub(crate) fn withdraw(&self, id: &str) -> Result<(), nft::Error> {
        let mut published = self.published.lock().expect("no panic while held");
        let Some(keys) = published.get(id) else {
            return Ok(());
        };
        let mut batch = Batch::new(TABLE);
        batch
            .changes
            .push(Change::DeleteElements("host-ports".into(), keys.clone()));
        nft::commit(&batch)?;
        published.remove(id);
        Ok(())
    }
}

fn key(port: &HostPort) -> Vec<u8> {
    let mut key = vec![port.protocol, 0, 0, 0];
    key.extend(port.host_port.to_be_bytes());
    key.extend([0, 0]);
    key
}

fn to_published_port() -> Rule {
    Rule(vec![
        Expr::DestinationType(0),
        Expr::Equal(0, LOCAL_ADDRESS.to_ne_bytes().to_vec()),
        Expr::Protocol(0),
        Expr::Transport {
            offset: 2,
            len: 2,
            to: 1,
        },
        Expr::Map(0, "host-ports".into(), 0),
        Expr::Dnat(0, 1),
    ])
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
