//! The server of a node other than the first: what every node runs, with clients over TLS to the first node's API.

use std::path::Path;

use anyhow::Context;
use client::connect::{self, Identity};
use kube::Client;
use linux::namespace::Namespace;
use tokio_util::sync::CancellationToken;

use super::api::Pki;
use super::{attend, components, ready};
use crate::cluster::API_PORT;
use crate::member::NodeConfig;
use crate::progress::Progress;
use crate::root::STATE;
use crate::worker::{Clients, Tasks};

/// Runs until the process is told to end, or a component ends.
pub(super) async fn serve(
    config: NodeConfig,
    host_network: Namespace,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let pki = Pki::read(&Path::new(STATE).join("pki"))?;
    let api = NodeConfig::first(&config.cluster).address();
    let url = format!("https://{api}:{API_PORT}");
    let clients = Clients {
        kubelet: client(&url, &pki, "kubelet")?,
        proxy: client(&url, &pki, "kube-proxy")?,
    };
    let (shutdown, mut tasks) = (CancellationToken::new(), Tasks::new());
    let mut worker = components::worker(&config, &pki, Some(host_network))?;
    worker
        .start_kubelet(&clients, &shutdown, &mut tasks)
        .await?;
    worker.start_network(&clients, &mut tasks);
    let proxy = worker.start_proxy(&clients, &mut tasks);
    let ready = ready::wait(clients.kubelet, config.name(), vec![proxy]);
    let result = attend(ready, &mut tasks, progress).await;
    shutdown.cancel();
    result
}

/// A client with one of the node's certificates.
fn client(url: &str, pki: &Pki, name: &str) -> anyhow::Result<Client> {
    let identity = Identity::Certificate {
        certificate: pki.text(&format!("{name}.crt"))?,
        key: pki.text(&format!("{name}.key"))?,
    };
    connect::remote(name, url, &pki.text("ca.crt")?, identity)
        .with_context(|| format!("cannot use the certificate of {name}"))
}
