//! What a node tells the others about itself, in flannel's annotations of its `Node`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{Backend, Own, VNI};

const TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const DATA: &str = "flannel.alpha.coreos.com/backend-data";
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

/// The address of a network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of a node's end of the virtual network. It follows from the node's own, so it is the same after every
    /// restart and no two nodes share one.
    pub fn of_node(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        // Locally administered, and what the field uses for addresses made of IPv4's.
        Self([0x0a, 0x58, a, b, c, d])
    }

    fn is_usable(self) -> bool {
        let is_group = self.0[0] & 1 == 1;
        !is_group && self.0 != [0; 6]
    }
}

impl Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = |part: &str| match part.len() {
            2 => u8::from_str_radix(part, 16).map_err(drop),
            _ => Err(()),
        };
        let bytes: Result<Vec<u8>, ()> = text.split(':').map(digits).collect();
        Ok(Self(bytes?.try_into().map_err(drop)?))
    }
}

/// What the others need to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node.
    pub node: String,
    /// Addresses of its pods.
    pub pods: Ipv4Net,
    /// Where packets for them are sent.
    pub public_ip: Ipv4Addr,
    /// For VXLAN: its end's address.
    pub mac: Option<Mac>,
}

/// Why a node's pods cannot be reached from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It has no pod network of its own yet, or has not told the others about itself.
    #[error("it is not ready for the network yet")]
    NotYet,
    /// It uses another way than we do.
    #[error("its back end is {theirs}, ours {ours}")]
    OtherBackend {
        /// What it says.
        theirs: String,
        /// What this node has.
        ours: Backend,
    },
    /// An annotation makes no sense.
    #[error("its annotation {0} cannot be used")]
    Annotation(&'static str),
    /// Its pod network is not one.
    #[error("its pod network {0:?} is none of this cluster's")]
    PodNetwork(String),
    /// Its pod network is in part another node's.
    #[error("its pod network {0} belongs to another node in part")]
    Overlap(Ipv4Net),
    /// Plain routes do not lead there.
    #[error("it is not on this node's link, as host-gw needs it: {0}")]
    OffLink(Ipv4Addr),
}

/// Reads what a node says about itself; nothing of it is used unless all of it can be.
///
/// # Errors
/// Why the node cannot be used.
pub fn read(node: &Node, own: &Own) -> Result<Lease, Unusable> {
    let annotations = node.metadata.annotations.as_ref();
    let text = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
    let spec = node.spec.as_ref();
    let cidr = spec.and_then(|spec| spec.pod_cidr.as_deref());
    let (Some(cidr), Some("true"), Some(backend)) = (cidr, text(MANAGED), text(TYPE)) else {
        return Err(Unusable::NotYet);
    };
    if backend != own.backend.name() {
        let (theirs, ours) = (backend.to_owned(), own.backend);
        return Err(Unusable::OtherBackend { theirs, ours });
    }
    let pods = cidr.parse::<Ipv4Net>().ok();
    let pods = pods.filter(|pods| own.cluster.contains(pods) && *pods == pods.trunc());
    let pods = pods.ok_or_else(|| Unusable::PodNetwork(cidr.to_owned()))?;
    let public_ip = text(PUBLIC_IP).and_then(|text| text.parse().ok());
    let public_ip = public_ip.filter(|address| is_node_address(*address, own));
    let public_ip = public_ip.ok_or(Unusable::Annotation(PUBLIC_IP))?;
    let mac = match own.backend {
        Backend::Vxlan => {
            let mac = text(DATA).and_then(vtep);
            Some(mac.ok_or(Unusable::Annotation(DATA))?)
        }
        Backend::HostGw if !own.link.contains(&public_ip) => {
            return Err(Unusable::OffLink(public_ip));
        }
        Backend::HostGw | Backend::Udp => None,
    };
    let node = node.metadata.name.clone().unwrap_or_default();
    Ok(Lease {
        node,
        pods,
        public_ip,
        mac,
    })
}

/// Another machine's own address, by what can be told from it.
fn is_node_address(address: Ipv4Addr, own: &Own) -> bool {
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_link_local();
    !special && address != own.public_ip && !own.cluster.contains(&address)
}

fn vtep(data: &str) -> Option<Mac> {
    let data: Value = serde_json::from_str(data).ok()?;
    if data["VNI"].as_u64()? != u64::from(VNI) {
        return None;
    }
    let mac: Mac = data["VtepMAC"].as_str()?.parse().ok()?;
    mac.is_usable().then_some(mac)
}

/// What this node says about itself.
fn annotations(own: &Own) -> BTreeMap<&'static str, String> {
    let data = match own.backend {
        Backend::Vxlan => json!({"VNI": VNI, "VtepMAC": own.mac().to_string()}),
        Backend::HostGw | Backend::Udp => Value::Null,
    };
    BTreeMap::from([
        (TYPE, own.backend.name().to_owned()),
        (DATA, data.to_string()),
        (PUBLIC_IP, own.public_ip.to_string()),
        (MANAGED, "true".to_owned()),
    ])
}

/// The merge patch that makes the node say what is true of it; `None` when it does already.
pub fn announcement(node: &Node, own: &Own) -> Option<Value> {
    let wanted = annotations(own);
    let said = node.metadata.annotations.as_ref();
    let right = |(key, value): (&&str, &String)| said.and_then(|all| all.get(*key)) == Some(value);
    match wanted.iter().all(right) {
        true => None,
        false => Some(json!({"metadata": {"annotations": wanted}})),
    }
}
