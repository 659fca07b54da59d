//! The built-in pod network of one node: an address from the node's pod CIDR, a veth pair, routes.
//!
//! Pods are *routed*, not bridged: each pod's `eth0` carries its address as a /32, its only neighbour is the node (the first
//! address of the pod CIDR, on `lo`), and the node has one host route a pod. Every packet between two pods therefore
//! passes the node's routing and connection tracking, which services need, without `br_netfilter`, and there is no shared
//! link on which one pod could answer or advertise for another (no ARP or router-advertisement spoofing). The choice is
//! recorded in `docs/decisions/`.
//!
//! Between nodes packets travel as `overlay` plans it; [`between`] follows the nodes and carries the plans out.
//!
//! Start with [`Network`]. Not here: services (`service-proxy`), external CNI plug-ins.

mod addresses;
pub mod between;
mod kernel;
mod link;
mod rules;
#[cfg(test)]
mod tests;
mod tunnel;
mod underlay;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::RwLock;

use ipnet::Ipv4Net;
use linux::namespace::Namespace;

pub use addresses::AddressError;
pub use overlay::Backend;
pub use rules::{HostPort, TABLE};

/// What can go wrong with a pod's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has not got its pod CIDR yet.
    #[error("the node has no pod CIDR yet")]
    NotReady,
    /// No address, or its record cannot be kept.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The kernel refused a link, an address or a route.
    #[error("cannot {what}")]
    Link {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// A namespace cannot be entered or a file not be written.
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    /// A setting of the kernel cannot be changed.
    #[error("cannot write {path}")]
    Setting {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused the rules.
    #[error(transparent)]
    Rules(#[from] nft::Error),
    /// The node's address is none of its own.
    #[error("no interface of this node has its address {0}")]
    NoInterface(Ipv4Addr),
    /// The tunnel's socket cannot be had.
    #[error("cannot receive packets of other nodes on {address}")]
    Tunnel {
        /// Where.
        address: std::net::SocketAddrV4,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where the network keeps its records, and what it needs to know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory that survives restarts: one small file an address in use.
    pub state_dir: PathBuf,
    /// All pod addresses of the cluster; traffic to anywhere else is masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// The address under which other nodes reach this one.
    pub node_address: Ipv4Addr,
    /// How packets travel between nodes.
    pub backend: Backend,
}

/// What is known with the node's pod CIDR.
#[derive(Debug)]
struct Node {
    pool: addresses::Pool,
    /// The largest packet that also fits into the tunnel.
    mtu: u32,
}

/// The pod network of this node. The calling process must live in the node's network namespace.
#[derive(Debug)]
pub struct Network {
    config: Config,
    /// Set when the node has learned its pod CIDR.
    node: RwLock<Option<Node>>,
    rules: rules::Rules,
}

impl Network {
    /// A network that waits for the node's pod CIDR.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            node: RwLock::new(None),
            rules: rules::Rules::default(),
        }
    }

    /// The node's pod CIDR is known: prepares routing, and from now on pods can be attached. Repeating it is harmless.
    ///
    /// # Errors
    /// The kernel refused a setting, or the records cannot be read.
    pub async fn set_pod_cidr(&self, cidr: Ipv4Net) -> Result<(), Error> {
        let ready =
            |node: &Option<Node>| node.as_ref().is_some_and(|node| node.pool.cidr() == cidr);
        if ready(&self.node.read().expect("no panic while held")) {
            return Ok(());
        }
        let pool = addresses::Pool::open(&self.config.state_dir, cidr)?;
        link::prepare_node(pool.gateway()).await?;
        self.rules.start(cidr, self.config.cluster_cidr)?;
        let underlay = underlay::find(self.config.node_address).await?;
        let mtu = underlay.mtu - self.config.backend.overhead_bytes().min(underlay.mtu);
        *self.node.write().expect("no panic while held") = Some(Node { pool, mtu });
        Ok(())
    }

    /// Pods can be attached.
    pub fn is_ready(&self) -> bool {
        self.node.read().expect("no panic while held").is_some()
    }

    /// Gives the sandbox `id`, whose network namespace is `namespace`, an address, `eth0` and routes.
    /// A sandbox that is attached already gets the same address again.
    ///
    /// # Errors
    /// Nothing is left behind of an attachment that failed.
    pub async fn attach(
        &self,
        id: &str,
        namespace: &Namespace,
        host_ports: &[HostPort],
    ) -> Result<Ipv4Addr, Error> {
        let (address, gateway, mtu) = {
            let node = self.node.read().expect("no panic while held");
            let node = node.as_ref().ok_or(Error::NotReady)?;
            (node.pool.take(id)?, node.pool.gateway(), node.mtu)
        };
        let result = async {
            link::attach(id, namespace, address, gateway, mtu).await?;
            Ok(self.rules.publish(id, address, host_ports)?)
        };
        match result.await {
            Ok(()) => Ok(address),
            Err(error) => {
                // The first error is the one to tell; what cannot be undone is found again by the next detach.
                let _ = self.detach(id).await;
                Err(error)
            }
        }
    }

    /// Undoes [`Network::attach`]; what is already gone is fine.
    ///
    /// # Errors
    /// Something is left; calling again takes it up.
    pub async fn detach(&self, id: &str) -> Result<(), Error> {
        self.rules.withdraw(id)?;
        link::detach(id).await?;
        if let Some(node) = self.node.read().expect("no panic while held").as_ref() {
            node.pool.give_back(id)?;
        }
        Ok(())
    }

    /// Takes up the published ports of a sandbox that was attached by an earlier process.
    ///
    /// # Errors
    /// The kernel refused the rules.
    pub fn adopt(&self, id: &str, address: Ipv4Addr, host_ports: &[HostPort]) -> Result<(), Error> {
        Ok(self.rules.publish(id, address, host_ports)?)
    }
}
