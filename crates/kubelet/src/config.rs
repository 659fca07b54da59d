//! What a kubelet is told when it starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::Taint;
use kube::Client;

/// How often the status of a node is told when nothing changes, unless something else is said.
pub const STATUS_EVERY: Duration = Duration::from_secs(300);

/// Everything [`crate::run`] needs.
pub struct Config {
    /// Name of the node.
    pub node_name: String,
    /// The API, as `system:node:<node_name>`.
    pub client: Client,
    /// Sandboxes and containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Where volumes and other files of pods lie: `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Where the runtime writes logs: `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Addresses of the node, the primary one first.
    pub node_ips: Vec<String>,
    /// Addresses of the cluster DNS.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain: `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Labels of the node beyond the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<Taint>,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// CPUs of the node in thousandths; `None`: those of the machine.
    pub cpu_milli: Option<u64>,
    /// Memory of the node; `None`: that of the machine.
    pub memory_bytes: Option<u64>,
    /// The control group of this node, in which pods get theirs; the empty one is the root. `None`: somebody else makes them.
    pub cgroup_root: Option<String>,
    /// The HTTPS API; `None`: there is none.
    pub server: Option<ServerConfig>,
    /// The Node object is made when it is not there.
    pub registers: bool,
    /// How often the status is told when nothing changes.
    pub status_every: Duration,
    /// A directory of files, or one file, with pods that run whatever the API says.
    pub static_pods: Option<PathBuf>,
    /// Where to answer `/healthz` without asking who calls; only on the loopback interface.
    pub healthz: Option<SocketAddr>,
}

/// The kubelet's HTTPS API.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen; port 10250.
    pub address: SocketAddr,
    /// Serving certificate; it may come later and change.
    pub certificate: Arc<serving::Certificate>,
    /// Who signs the certificates of clients, PEM.
    pub client_ca: String,
    /// The command line, as `/flagz` tells it.
    pub flags: serving::about::Flags,
    /// What of the configuration at `/configz` only who starts the kubelet knows, in upstream's words.
    pub configuration: serde_json::Map<String, serde_json::Value>,
    /// What was asked of the API server over the network, for `/metrics`.
    pub requests: client::requests::Requests,
}
