//! The ways between nodes.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How packets for pods of other nodes travel; the same on all nodes of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// In VXLAN, by the kernel. Nodes need nothing but IP between them.
    #[default]
    Vxlan,
    /// As they are, by a route to the other node; nodes must share a link.
    HostGw,
    /// In UDP, by this program: where the kernel has no VXLAN.
    Udp,
}

/// There is no such way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network back end: use vxlan, host-gw or udp")]
pub struct UnknownBackend(String);

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Vxlan, Backend::HostGw, Backend::Udp];

    /// Its name, as flannel's configuration and annotations spell it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
            Backend::Udp => "udp",
        }
    }

    /// What a tunnel adds to each packet: outer Ethernet, IP, UDP and VXLAN headers, or IP and UDP.
    pub fn overhead_bytes(self) -> u32 {
        match self {
            Backend::Vxlan => 50,
            Backend::HostGw => 0,
            Backend::Udp => 28,
        }
    }

    /// The device that packets for other nodes' pods leave by, if there is one; flannel's names.
    pub fn device(self) -> Option<&'static str> {
        match self {
            Backend::Vxlan => Some("flannel.1"),
            Backend::HostGw => None,
            Backend::Udp => Some("flannel0"),
        }
    }
}

impl Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == text);
        found.ok_or_else(|| UnknownBackend(text.to_owned()))
    }
}
