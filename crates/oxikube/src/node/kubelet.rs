//! The kubelet with the embedded runtime below it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use images::NamespaceDialer;
use kube::Client;
use kubelet::ServerConfig;
use linux::namespace::Namespace;
use runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::Pki;
use super::control;
use super::pod_network::BuiltIn;
use crate::cluster::{CLUSTER_DOMAIN, Config, DNS_SERVICE};
use crate::root::{PROGRAM, RUN, STATE};

/// The port of the kubelet's API.
const PORT: u16 = 10250;
const MAX_PODS: u32 = 110;

/// Opens the runtime: it finds running containers again, and listens for `crictl` and for `oxikube image`.
pub(super) async fn runtime(
    host_network: Namespace,
    shutdown: CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Arc<Runtime>> {
    let state = Path::new(STATE);
    let config = runtime::Config {
        root: state.join("containers"),
        state_dir: state.join("sandboxes"),
        cgroup_parent: String::new(),
        network: Arc::new(BuiltIn::new(&state.join("pod-network"))?),
        shim: vec![PROGRAM.into(), "shim".into()],
        // A registry on the machine's loopback is reached only from the machine's own network.
        pull: images::PullOptions {
            dialer: Arc::new(NamespaceDialer::new(host_network)),
            ..images::PullOptions::default()
        },
    };
    let opened = Runtime::open(config).await;
    let runtime = opened.context("the container runtime cannot start")?;
    control::serve(runtime.images().clone()).context("the control socket cannot be opened")?;
    let serving = runtime.clone();
    tasks.spawn(async move {
        let socket = Path::new(RUN).join("cri.sock");
        runtime::serve(serving, &socket, shutdown.cancelled()).await?;
        Err(anyhow!("the runtime's socket was closed"))
    });
    Ok(runtime)
}

/// What the kubelet is told.
pub(super) fn config(
    cluster: &Config,
    client: Client,
    runtime: Arc<Runtime>,
    pki: &Pki,
) -> anyhow::Result<kubelet::Config> {
    Ok(kubelet::Config {
        node_name: cluster.node_name(),
        client,
        runtime: runtime.clone(),
        images: runtime,
        root_dir: "/var/lib/kubelet".into(),
        log_dir: "/var/log/pods".into(),
        node_ips: vec![cluster.node_address().to_string()],
        cluster_dns: vec![DNS_SERVICE.to_string()],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        resolv_conf: "/etc/resolv.conf".into(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        max_pods: MAX_PODS,
        cpu_milli: None,
        memory_bytes: None,
        cgroup_root: Some(String::new()),
        server: Some(ServerConfig {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            certificate: pki.text("kubelet-server.crt")?,
            key: pki.text("kubelet-server.key")?,
            client_ca: pki.text("ca.crt")?,
        }),
        healthz: None,
    })
}
