//! The seam to the pod network: who gives a sandbox its addresses.

use std::net::IpAddr;

use async_trait::async_trait;
use linux::namespace::Namespace;

/// Why a network could not be attached or detached.
pub type NetworkError = Box<dyn std::error::Error + Send + Sync>;

/// A port of the host that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// The pod's port.
    pub container_port: u16,
    /// The host's port.
    pub host_port: u16,
    /// Only for this address of the host, if given.
    pub host_ip: Option<IpAddr>,
}

/// A sandbox, as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSandboxNetwork {
    /// The sandbox's ID: unique, the same over restarts.
    pub id: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Ports of the host that lead to it.
    pub port_mappings: Vec<PortMapping>,
}

/// Gives sandboxes their place in the network. The binary implements it with the pod network that
/// is configured.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects a sandbox's network namespace; the first address is the pod's primary one.
    async fn attach(
        &self,
        sandbox: &PodSandboxNetwork,
        namespace: &Namespace,
    ) -> Result<Vec<IpAddr>, NetworkError>;

    /// Undoes [`PodNetwork::attach`]; success when there is nothing to undo. The namespace may be
    /// gone.
    async fn detach(&self, sandbox: &PodSandboxNetwork) -> Result<(), NetworkError>;

    /// Says, once after a restart, that a sandbox found again has these addresses.
    async fn adopt(
        &self,
        sandbox: &PodSandboxNetwork,
        addresses: &[IpAddr],
    ) -> Result<(), NetworkError>;

    /// The node has been given its pod CIDRs.
    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), NetworkError>;

    /// Whether pods can be connected now, and if not, why.
    fn ready(&self) -> Result<(), String>;
}
