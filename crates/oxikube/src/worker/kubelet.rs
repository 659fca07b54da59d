//! The kubelet with the embedded runtime below it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ::kubelet::ServerConfig;
use anyhow::{Context, anyhow};
use client::requests::Requests;
use images::NamespaceDialer;
use kube::Client;
use runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::pod_network::BuiltIn;
use super::{Tasks, Worker, control};

/// The port of the kubelet's API.
const PORT: u16 = 10250;
const MAX_PODS: u32 = 110;

/// Opens the runtime: it finds running containers again, and listens for `crictl` and for `oxikube image`.
pub(super) async fn runtime(
    node: &mut Worker,
    shutdown: CancellationToken,
    tasks: &mut Tasks,
) -> anyhow::Result<Arc<Runtime>> {
    let pull = match node.registry_network.take() {
        // A registry on the machine's loopback is reached only from the machine's own network.
        Some(network) => images::PullOptions {
            dialer: Arc::new(NamespaceDialer::new(network)),
            ..images::PullOptions::default()
        },
        None => images::PullOptions::default(),
    };
    let (network, places) = (BuiltIn::new(node)?, &node.places);
    let config = runtime::Config {
        root: places.state.join("containers"),
        state_dir: places.state.join("sandboxes"),
        cgroup_parent: places.cgroup.clone(),
        network: Arc::new(network),
        shim: places.shim.clone(),
        pull,
    };
    let opened = Runtime::open(config).await;
    let runtime = opened.context("the container runtime cannot start")?;
    control::serve(&places.run, runtime.images().clone())
        .context("the control socket cannot be opened")?;
    let (serving, socket) = (runtime.clone(), places.run.join("cri.sock"));
    tasks.spawn(async move {
        runtime::serve(serving, &socket, shutdown.cancelled()).await?;
        Err(anyhow!("the runtime's socket was closed"))
    });
    Ok(runtime)
}

/// What the kubelet is told.
pub(super) fn config(node: &Worker, client: Client, runtime: Arc<Runtime>) -> ::kubelet::Config {
    ::kubelet::Config {
        node_name: node.name.clone(),
        client,
        runtime: runtime.clone(),
        images: runtime,
        root_dir: node.places.kubelet.clone(),
        log_dir: node.places.logs.clone(),
        node_ips: vec![node.address.to_string()],
        cluster_dns: vec![node.networks.dns.to_string()],
        cluster_domain: node.networks.domain.clone(),
        resolv_conf: "/etc/resolv.conf".into(),
        labels: node.labels.clone(),
        taints: node.taints.clone(),
        max_pods: MAX_PODS,
        cpu_milli: None,
        memory_bytes: None,
        cgroup_root: Some(node.places.cgroup.clone()),
        server: Some(ServerConfig {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            certificate: node.serving.certificate.clone(),
            client_ca: node.serving.client_ca.clone(),
            // No command line of its own; this is what it is made of.
            flags: [
                ("address", "0.0.0.0".to_owned()),
                ("port", PORT.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            configuration: [(
                "containerRuntimeEndpoint".to_owned(),
                format!("unix://{}", node.places.run.join("cri.sock").display()).into(),
            )]
            .into_iter()
            .collect(),
            requests: Requests::default(),
        }),
        healthz: None,
        registers: true,
        static_pods: node.places.manifests.clone(),
        status_every: ::kubelet::STATUS_EVERY,
    }
}
