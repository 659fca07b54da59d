//! The built-in pod network of one node: an address from the node's pod CIDR, a veth pair, routes.
//!
//! Pods are *routed*, not bridged: each pod's `eth0` carries its address as a /32, its only neighbour is the node (the first
//! address of the pod CIDR, on `lo`), and the node has one host route a pod. Every packet between two pods therefore
//! passes the node's routing and connection tracking, which services need, without `br_netfilter`, and there is no shared
//! link on which one pod could answer or advertise for another (no ARP or router-advertisement spoofing). The choice is
//! recorded in `docs/decisions/`.
//!
//! [`Network`] is the whole API. Not here: services (`service-proxy`), routes between nodes, external CNI plug-ins.

mod addresses;
mod link;
mod rules;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::RwLock;

use ipnet::Ipv4Net;
use linux::namespace::Namespace;

pub use addresses::AddressError;
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
}

/// Where the network keeps its records, and what it needs to know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory that survives restarts: one small file an address in use.
    pub state_dir: PathBuf,
    /// All pod addresses of the cluster; traffic to anywhere else is masqueraded.
    pub cluster_cidr: Ipv4Net,
}

/// The pod network of this node. The calling process must live in the node's network namespace.
#[derive(Debug)]
pub struct Network {
    config: Config,
    /// Set when the node has learned its pod CIDR.
    node: RwLock<Option<addresses::Pool>>,
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
            |node: &Option<addresses::Pool>| node.as_ref().is_some_and(|p| p.cidr() == cidr);
        if ready(&self.node.read().expect("no panic while held")) {
            return Ok(());
        }
        let pool = addresses::Pool::open(&self.config.state_dir, cidr)?;
        link::prepare_node(pool.gateway()).await?;
        self.rules.start(cidr, self.config.cluster_cidr)?;
        *self.node.write().expect("no panic while held") = Some(pool);
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
        let (address, gateway) = {
            let node = self.node.read().expect("no panic while held");
            let pool = node.as_ref().ok_or(Error::NotReady)?;
            (pool.take(id)?, pool.gateway())
        };
        let result = async {
            link::attach(id, namespace, address, gateway).await?;
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
        if let Some(pool) = self.node.read().expect("no panic while held").as_ref() {
            pool.give_back(id)?;
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
