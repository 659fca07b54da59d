//! What one service needs of the shared sets.

use std::net::Ipv4Addr;

use crate::cidr::Cidr;

/// A transport protocol by its IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
}

impl Protocol {
    /// By the API's name; `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// By which door a packet comes to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// The cluster IP.
    Cluster,
    /// A port on every address of the node.
    Node,
    /// An external or load-balancer address.
    External,
}

/// An address, protocol and port where a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address; 0.0.0.0 for a node port.
    pub address: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Frontend {
    /// Whether it is a node port.
    pub fn is_node_port(&self) -> bool {
        self.address.is_unspecified()
    }

    /// The 12 bytes of this front end as a key.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = self.address.octets().to_vec();
        key.extend([self.protocol.number(), 0, 0, 0]);
        key.extend(self.port.to_be_bytes());
        key.extend([0, 0]);
        key
    }

    /// The 16 bytes of the key of the end point at `index`.
    pub(crate) fn endpoint_key(&self, index: u32) -> Vec<u8> {
        let mut key = self.key();
        // The kernel's random number is in host order.
        key.extend(index.to_ne_bytes());
        key
    }

    /// The 20 bytes that say that this end point is one of this front end's.
    pub(crate) fn member_key(&self, endpoint: &Endpoint) -> Vec<u8> {
        let mut key = self.key();
        key.extend(endpoint.data());
        key
    }

    /// The 20 bytes that say that clients of this network may come in here.
    pub(crate) fn source_key(&self, source: Cidr) -> Vec<u8> {
        let mut key = self.key();
        key.extend(source.network());
        key.extend(u32::from(source.prefix).to_ne_bytes());
        key
    }
}

/// Where a packet for a service ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The port there.
    pub port: u16,
}

impl Endpoint {
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = self.address.octets().to_vec();
        data.extend(self.port.to_be_bytes());
        data.extend([0, 0]);
        data
    }
}

/// Where the packets of a front end go. Lists of end points are sorted and never empty unless said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// There is no end point anywhere: refused.
    Nowhere,
    /// The policy allows only end points of this node, and it has none: dropped.
    Elsewhere,
    /// Over these.
    Spread(Vec<Endpoint>),
    /// Packets from outside keep their source and stay on this node; those of pods and of the node itself go anywhere
    /// (`externalTrafficPolicy: Local`).
    Preserve {
        /// For pods and the node itself.
        cluster: Vec<Endpoint>,
        /// For all others; when empty they are dropped.
        local: Vec<Endpoint>,
    },
}

/// What stands behind a front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// By which door.
    pub kind: FrontendKind,
    /// Where packets go.
    pub reach: Reach,
    /// How many seconds a client stays with its end point (`sessionAffinity: ClientIP`).
    pub affinity: Option<u32>,
    /// The only networks that may come in (`loadBalancerSourceRanges`).
    pub sources: Option<Vec<Cidr>>,
    /// All end points that serve, on whatever node; only kept for UDP, whose flows have no end of their own.
    pub serving: Vec<Endpoint>,
}

impl Backends {
    /// Every end point that a packet may be sent to.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let (first, second): (&[Endpoint], &[Endpoint]) = match &self.reach {
            Reach::Nowhere | Reach::Elsewhere => (&[], &[]),
            Reach::Spread(all) => (all, &[]),
            Reach::Preserve { cluster, local } => (cluster, local),
        };
        first.iter().chain(second)
    }
}

/// All front ends of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Sorted by front end, no front end twice.
    pub frontends: Vec<(Frontend, Backends)>,
    /// The port where load balancers ask for the health of the service on this node, and how many end points it has here.
    pub health_check: Option<(u16, usize)>,
}
