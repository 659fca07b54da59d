//! What every node runs, wherever its credentials come from: container runtime, kubelet, service proxy, pod network.
//!
//! The first node of a cluster runs it beside the API server, with clients that never leave the process; every other
//! node, and `oxikube agent` on a machine of its own, with clients over TLS. It reads no configuration and makes no
//! certificate: [`Worker`] is told everything.

pub(crate) mod control;
mod kubelet;
mod pod_network;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use ::pod_network::between;
use anyhow::anyhow;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Taint;
use kube::Client;
use linux::namespace::Namespace;
use overlay::Backend;
use service_proxy::{Cidr, Settings};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where the service proxy says whether it is well, as kube-proxy does.
const PROXY_HEALTH_PORT: u16 = 10256;
/// Where kubelets keep volumes everywhere.
pub(crate) const KUBELET_ROOT: &str = "/var/lib/kubelet";
/// Where kubeadm keeps the files of static pods.
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where runtimes write logs everywhere.
pub(crate) const POD_LOGS: &str = "/var/log/pods";

/// A node and its place in the cluster.
pub(crate) struct Worker {
    /// Its name in the API.
    pub(crate) name: String,
    /// The address under which other nodes reach it.
    pub(crate) address: Ipv4Addr,
    /// The same for all nodes.
    pub(crate) networks: Networks,
    /// Where it keeps things.
    pub(crate) places: Places,
    /// How its HTTPS API is secured.
    pub(crate) serving: Serving,
    /// Whose network registries are reached from; `None`: the node's own.
    pub(crate) registry_network: Option<Namespace>,
    /// Labels of the node beyond the usual ones.
    pub(crate) labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub(crate) taints: Vec<Taint>,
}

/// Networks and names of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    /// All pods' addresses.
    pub(crate) pods: Ipv4Net,
    /// All services' addresses.
    pub(crate) services: Ipv4Net,
    /// Address of the cluster DNS.
    pub(crate) dns: Ipv4Addr,
    /// Domain of services.
    pub(crate) domain: String,
    /// How packets travel between nodes.
    pub(crate) backend: Backend,
}

/// Directories and control groups of a node.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// What must survive a restart: images, containers, sandboxes, pod addresses.
    pub(crate) state: PathBuf,
    /// Sockets.
    pub(crate) run: PathBuf,
    /// Volumes and the like.
    pub(crate) kubelet: PathBuf,
    /// Logs of containers.
    pub(crate) logs: PathBuf,
    /// The control group in which all pods' groups are made; the empty one is the root.
    pub(crate) cgroup: String,
    /// Files that name pods which run whatever the API says.
    pub(crate) manifests: Option<PathBuf>,
    /// The command of the keeper of one pod.
    pub(crate) shim: Vec<OsString>,
}

/// The kubelet's serving certificate, and who signs its clients' certificates (PEM).
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) certificate: Arc<serving::Certificate>,
    pub(crate) client_ca: String,
}

/// What a node is to the API. Each acts as a user of its own.
#[derive(Clone)]
pub(crate) struct Clients {
    /// `system:node:NAME`.
    pub(crate) kubelet: Client,
    /// `system:kube-proxy`, which also reads where the other nodes are.
    pub(crate) proxy: Client,
}

/// The tasks of a process; none of them ends by itself.
pub(crate) type Tasks = JoinSet<anyhow::Result<()>>;

impl Worker {
    /// Starts the runtime alone, for a kubelet that is told otherwise.
    pub(crate) async fn start_runtime(
        &mut self,
        shutdown: &CancellationToken,
        tasks: &mut Tasks,
    ) -> anyhow::Result<Arc<runtime::Runtime>> {
        kubelet::runtime(self, shutdown.clone(), tasks).await
    }

    /// Starts runtime and kubelet. Containers of an earlier process are found again.
    pub(crate) async fn start_kubelet(
        &mut self,
        clients: &Clients,
        shutdown: &CancellationToken,
        tasks: &mut Tasks,
    ) -> anyhow::Result<()> {
        let runtime = kubelet::runtime(self, shutdown.clone(), tasks).await?;
        let config = kubelet::config(self, clients.kubelet.clone(), runtime);
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            ::kubelet::run(config, shutdown).await?;
            Err(anyhow!("the kubelet ended"))
        });
        Ok(())
    }

    /// Starts what leads to the pods of other nodes.
    pub(crate) fn start_network(&self, clients: &Clients, tasks: &mut Tasks) {
        let config = pod_network::config(self);
        let (name, clients) = (self.name.clone(), clients.clone());
        let clients = between::Clients {
            nodes: clients.proxy,
            own: clients.kubelet,
        };
        tasks.spawn(async move {
            between::run(clients, name, config).await?;
            Err(anyhow!("the network between nodes ended"))
        });
    }

    /// Starts the service proxy; what is returned turns true when the rules of all services that existed are in the
    /// kernel.
    pub(crate) fn start_proxy(
        &self,
        clients: &Clients,
        tasks: &mut Tasks,
    ) -> watch::Receiver<bool> {
        let config = service_proxy::Config {
            settings: Settings {
                service_cidr: Some(network(self.networks.services)),
                cluster_cidr: Some(network(self.networks.pods)),
                node_port_addresses: Vec::new(),
            },
            node: self.name.clone(),
            healthz: Some((Ipv4Addr::UNSPECIFIED, PROXY_HEALTH_PORT).into()),
        };
        let (ready, proxy_ready) = watch::channel(false);
        let client = clients.proxy.clone();
        tasks.spawn(async move {
            service_proxy::run(client, config, ready).await?;
            Err(anyhow!("the service proxy ended"))
        });
        proxy_ready
    }
}

fn network(network: Ipv4Net) -> Cidr {
    Cidr {
        address: network.network(),
        prefix: network.prefix_len(),
    }
}
