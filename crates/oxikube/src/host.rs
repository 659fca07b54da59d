//! oxikube on the machine itself: the control plane with a node (`server`), further nodes (`agent`).
//!
//! For production, where `start` is for development: no namespaces of its own, one process a machine, under systemd or
//! any other supervisor. When the process ends pods run on; the next one finds them again. A node joins with a token in
//! which the cluster's authority is pinned, and gets its certificates by signing requests, which it renews.

pub(crate) mod agent;
mod objects;
pub(crate) mod server;
mod shared;
mod token;
mod unit;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use overlay::Backend;
use serde::{Deserialize, Serialize};

use crate::component;
use crate::worker::{Networks, Places};

/// Where everything of the host is kept.
const DATA_DIR: &str = "/var/lib/oxikube-host";
/// Where kubectl finds the way in.
const KUBECONFIG: &str = "/etc/oxikube/admin.kubeconfig";

/// What a node on the host itself is told, with or without the control plane beside it.
#[derive(Args, Clone)]
pub(crate) struct NodeFlags {
    /// Directory of all data.
    #[arg(long, default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// The node's name; the host's when not given.
    #[arg(long)]
    node_name: Option<String>,
    /// The node's address; the one from which the host reaches others when not given.
    #[arg(long)]
    node_ip: Option<Ipv4Addr>,
    /// Labels that the node registers with.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    node_label: Vec<String>,
    /// Taints that the node registers with.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE:EFFECT")]
    node_taint: Vec<String>,
    /// The control group in which those of pods are made.
    #[arg(long, default_value = "oxikube-host")]
    cgroup: String,
    /// A directory of files, or one file, with pods that run on this node whatever the API says.
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
    /// Print a systemd unit that runs this very command, instead of running it.
    #[arg(long)]
    print_unit: bool,
    /// How detailed the log is.
    #[arg(short, long, default_value_t = 0)]
    v: u8,
}

impl NodeFlags {
    fn name(&self) -> String {
        self.node_name.clone().unwrap_or_else(component::host_name)
    }

    fn address(&self) -> anyhow::Result<Ipv4Addr> {
        match (self.node_ip, component::own_address()) {
            (Some(address), _) => Ok(address),
            (None, Ok(IpAddr::V4(address))) => Ok(address),
            (None, Ok(other)) => bail!("{other} is not of IPv4; give --node-ip"),
            (None, Err(error)) => Err(error).context("give --node-ip"),
        }
    }

    fn taints(&self) -> anyhow::Result<Vec<Taint>> {
        self.node_taint
            .iter()
            .map(|text| component::taint(text))
            .collect()
    }

    fn places(&self) -> anyhow::Result<Places> {
        Ok(Places {
            state: self.data_dir.join("node"),
            run: self.data_dir.join("run"),
            kubelet: self.data_dir.join("kubelet"),
            logs: self.data_dir.join("logs"),
            cgroup: self.cgroup.trim_matches('/').to_owned(),
            manifests: self.pod_manifest_path.clone(),
            shim: vec![std::env::current_exe()?.into(), "shim".into()],
        })
    }
}

/// What all nodes of a cluster have to know; made with the cluster, and the same ever after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClusterFacts {
    /// The pod network.
    pub(crate) cluster_cidr: ipnet::Ipv4Net,
    /// The service network.
    pub(crate) service_cidr: ipnet::Ipv4Net,
    /// Domain of services.
    pub(crate) cluster_domain: String,
    /// How packets travel between nodes.
    pub(crate) network_backend: Backend,
}

impl ClusterFacts {
    /// A node's own address must not be one of those of pods and services, which are led elsewhere.
    fn check_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        for (what, network) in [("pods", self.cluster_cidr), ("services", self.service_cidr)] {
            if network.contains(&address) {
                bail!("the node's address {address} lies in {network}, the network of {what}");
            }
        }
        Ok(())
    }

    /// An address of the service network by number.
    fn service(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + number)
    }

    fn networks(&self) -> Networks {
        Networks {
            pods: self.cluster_cidr,
            services: self.service_cidr,
            dns: self.service(10),
            domain: self.cluster_domain.clone(),
            backend: self.network_backend,
        }
    }

    /// Keeps the facts in `file`, or compares them with what has been kept there.
    fn settle(&self, file: &Path) -> anyhow::Result<()> {
        let known = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice::<Self>(&text)
                .with_context(|| format!("cannot read {}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = serde_json::to_vec_pretty(self)?;
                return crate::cluster::write_private(file, &text);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        if known != *self {
            bail!(
                "the networks of a cluster never change; this one was made with --cluster-cidr={} \
                 --service-cidr={} --cluster-domain={} --network-backend={}",
                known.cluster_cidr,
                known.service_cidr,
                known.cluster_domain,
                known.network_backend.name()
            );
        }
        Ok(())
    }
}

/// Tells the supervisor that the service runs.
fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(b"READY=1", Path::new(&path)));
    if let Err(error) = told {
        tracing::warn!(%error, "the supervisor could not be told that the service is ready");
    }
}
