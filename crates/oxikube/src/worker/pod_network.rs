//! The built-in pod network behind the runtime's seam.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ::pod_network::{Config, HostPort, Network};
use anyhow::bail;
use async_trait::async_trait;
use ipnet::Ipv4Net;
use linux::namespace::Namespace;
use runtime::{NetworkError, PodNetwork, PodSandboxNetwork, PortMapping};

use super::Worker;

/// The network of this node's pods.
pub(super) struct BuiltIn(Network);

impl BuiltIn {
    /// Fails when the node's files ask for another network: pods of two networks on one node would not reach each other.
    pub(super) fn new(node: &Worker) -> anyhow::Result<Self> {
        if let Some(file) = named_plugin(Path::new(PLUGINS)) {
            bail!(
                "{} names a CNI plug-in for pods, and this oxikube has its own pod network only: move the file away, or \
                 use a container runtime that knows plug-ins (--container-runtime-endpoint)",
                file.display()
            );
        }
        Ok(Self(Network::new(config(node))))
    }
}

/// Where a node's files name plug-ins.
const PLUGINS: &str = "/etc/cni/net.d";

/// The file that names a plug-in: the first one by name, as everywhere.
fn named_plugin(dir: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_one = |file: &PathBuf| {
        let kind = file.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("conf" | "conflist" | "json"))
    };
    files.map(|file| file.path()).filter(is_one).min()
}

/// What the pod network is told.
pub(super) fn config(node: &Worker) -> Config {
    Config {
        state_dir: node.places.state.join("pod-network"),
        cluster_cidr: node.networks.pods,
        node_address: node.address,
        backend: node.networks.backend,
    }
}

/// The host ports in the network's words.
fn host_ports(mappings: &[PortMapping]) -> Vec<HostPort> {
    let port = |mapping: &PortMapping| HostPort {
        protocol: match mapping.protocol {
            "UDP" => 17,
            "SCTP" => 132,
            _ => 6,
        },
        host_port: mapping.host_port,
        pod_port: mapping.container_port,
        address: mapping
            .host_ip
            .and_then(|address| ipv4(&[address]))
            .filter(|address| !address.is_unspecified()),
    };
    mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        // What is open on an address of version 6 alone is open nowhere here.
        .filter(|mapping| mapping.host_ip.is_none_or(|ip| ip.is_ipv4() || ip.is_unspecified()))
        .map(port)
        .collect()
}

fn ipv4(addresses: &[IpAddr]) -> Option<Ipv4Addr> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

#[async_trait]
impl PodNetwork for BuiltIn {
    async fn attach(
        &self,
        sandbox: &PodSandboxNetwork,
        namespace: &Namespace,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let ports = host_ports(&sandbox.port_mappings);
        let address = self.0.attach(&sandbox.id, namespace, &ports).await?;
        Ok(vec![address.into()])
    }

    async fn detach(&self, sandbox: &PodSandboxNetwork) -> Result<(), NetworkError> {
        Ok(self.0.detach(&sandbox.id).await?)
    }

    async fn adopt(
        &self,
        sandbox: &PodSandboxNetwork,
        addresses: &[IpAddr],
    ) -> Result<(), NetworkError> {
        let Some(address) = ipv4(addresses) else {
            return Ok(());
        };
        Ok(self
            .0
            .adopt(&sandbox.id, address, &host_ports(&sandbox.port_mappings))?)
    }

    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), NetworkError> {
        let cidr: Ipv4Net = cidr.parse()?;
        Ok(self.0.set_pod_cidr(cidr).await?)
    }

    fn ready(&self) -> Result<(), String> {
        match self.0.is_ready() {
            true => Ok(()),
            false => Err("the node has not been given a pod CIDR yet".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_by_the_first_file_of_its_kind() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(named_plugin(&dir.path().join("none")), None);
        for name in ["README", "20-b.conflist", "10-a.conf", "05.conflist.bak"] {
            std::fs::write(dir.path().join(name), "{}").expect("written");
        }
        assert_eq!(named_plugin(dir.path()), Some(dir.path().join("10-a.conf")));
    }
}
