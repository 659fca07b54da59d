//! What one service needs of the shared sets.

use std::net::Ipv4Addr;

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
    /// The door.
    pub kind: FrontendKind,
    /// The address; 0.0.0.0 for a node port.
    pub address: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Frontend {
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

/// All front ends of one service, each with its end points in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Sorted by front end, no front end twice.
    pub frontends: Vec<(Frontend, Vec<Endpoint>)>,
}
