//! `kube-proxy`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use clap::builder::ArgAction;
use client::requests::Requests;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};
use service_proxy::{Cidr, Config, Settings};
use serving::{Endpoints, Page, Told};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::flags::{Common, read};
use super::{configz, credentials, health};

const COMPONENT: &str = "kube-proxy";

/// Makes services reachable on a node.
#[derive(Parser)]
#[command(name = COMPONENT, args_override_self = true, version = "v1.37.0")]
pub(super) struct Flags {
    #[command(flatten)]
    common: Common,
    /// How to reach the API server, and as whom.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API server, instead of the one in the kubeconfig.
    #[arg(long)]
    master: Option<String>,
    /// A file with a KubeProxyConfiguration; other flags are then ignored but --hostname-override.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The pod network: what comes from elsewhere to a cluster IP is masqueraded.
    #[arg(long)]
    cluster_cidr: Option<String>,
    /// How: nftables is the only way here.
    #[arg(long, default_value = "nftables")]
    proxy_mode: String,
    /// The node's name, instead of the host's.
    #[arg(long)]
    hostname_override: Option<String>,
    /// The networks on whose addresses of this node node ports answer; all addresses if there is none.
    #[arg(long, value_delimiter = ',')]
    nodeport_addresses: Vec<Ipv4Net>,
    /// Where health is served, without TLS.
    #[arg(long, default_value = "0.0.0.0:10256")]
    healthz_bind_address: String,
    /// Where metrics are served, without TLS.
    #[arg(long, default_value = "127.0.0.1:10249")]
    metrics_bind_address: String,
    /// The service network of a cluster without ServiceCIDRs: what goes to it and to no service is refused. Not a flag of
    /// upstream's.
    #[arg(long)]
    service_cluster_ip_range: Option<Ipv4Net>,
    /// Take away what an earlier kube-proxy of this kind left in the kernel, and end.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    cleanup: bool,
}

impl super::Flags for Flags {
    fn common(&self) -> &Common {
        &self.common
    }
}

impl Flags {
    /// Takes over what a configuration file says.
    fn take(&mut self, path: &Path) -> anyhow::Result<()> {
        let file: Value = serde_saphyr::from_str(&read(path)?)
            .with_context(|| format!("cannot use {}", path.display()))?;
        let (kind, version) = (&file["kind"], &file["apiVersion"]);
        if kind != "KubeProxyConfiguration" || version != "kubeproxy.config.k8s.io/v1alpha1" {
            bail!("no kind {kind} is registered for version {version}");
        }
        let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        for (key, value) in file.as_object().into_iter().flatten() {
            let slot = match key.as_str() {
                "apiVersion" | "kind" => continue,
                "clientConnection" => {
                    self.kubeconfig = text(&value["kubeconfig"]).map(PathBuf::from);
                    continue;
                }
                "clusterCIDR" => {
                    self.cluster_cidr = text(value);
                    continue;
                }
                "hostnameOverride" => {
                    self.hostname_override = self.hostname_override.take().or(text(value));
                    continue;
                }
                "nodePortAddresses" => {
                    let networks = value.as_array().into_iter().flatten();
                    let networks = networks.filter_map(|network| network.as_str()?.parse().ok());
                    self.nodeport_addresses = networks.collect();
                    continue;
                }
                "mode" => &mut self.proxy_mode,
                "healthzBindAddress" => &mut self.healthz_bind_address,
                "metricsBindAddress" => &mut self.metrics_bind_address,
                other => {
                    tracing::warn!(
                        field = other,
                        "a field of the configuration changes nothing here"
                    );
                    continue;
                }
            };
            if let Some(text) = text(value) {
                *slot = text;
            }
        }
        Ok(())
    }
}

impl Flags {
    /// The page at `/configz`.
    fn configuration(&self, kubeconfig: &Path) -> Value {
        let with_port = |text: &str, port| match address(text, port) {
            Ok(Some(address)) => address.to_string(),
            Ok(None) | Err(_) => String::new(),
        };
        let networks: Vec<String> = self
            .nodeport_addresses
            .iter()
            .map(Ipv4Net::to_string)
            .collect();
        json!({
            "kind": "KubeProxyConfiguration",
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "clientConnection": configz::connection(kubeconfig),
            "hostnameOverride": self.hostname_override.as_deref().unwrap_or_default(),
            "healthzBindAddress": with_port(&self.healthz_bind_address, 10256),
            "metricsBindAddress": with_port(&self.metrics_bind_address, 10249),
            "mode": "nftables",
            "detectLocalMode": "ClusterCIDR",
            "clusterCIDR": self.cluster_cidr.as_deref().unwrap_or_default(),
            "nodePortAddresses": networks,
        })
    }
}

fn cidr(network: Ipv4Net) -> Cidr {
    Cidr {
        address: network.network(),
        prefix: network.prefix_len(),
    }
}

/// An address with a port, which may be left out; the empty one: none.
fn address(text: &str, port: u16) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let with_port = text.parse().or_else(|_| format!("{text}:{port}").parse());
    with_port
        .map(Some)
        .with_context(|| format!("{text:?} is no address"))
}

/// Runs until `shutdown`.
pub(super) async fn serve(mut flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    if flags.cleanup {
        let cleaned = service_proxy::clean_up().await;
        return cleaned
            .map_err(|error| anyhow!("the rules of services cannot be removed: {error}"));
    }
    if let Some(path) = flags.config.clone() {
        flags.take(&path)?;
    }
    if !matches!(flags.proxy_mode.as_str(), "" | "nftables") {
        let mode = &flags.proxy_mode;
        bail!("--proxy-mode={mode}: services are made of nftables here, nothing else is there");
    }
    let path = credentials::required(flags.kubeconfig.as_ref(), None)?;
    let requests = Requests::default();
    let client =
        requests.client(credentials::config(COMPONENT, path, flags.master.as_deref()).await?)?;
    let pods = flags.cluster_cidr.as_deref().map(|text| {
        // Of two families the first that is known here.
        let mut all = text
            .split(',')
            .filter_map(|part| part.trim().parse::<Ipv4Net>().ok());
        all.next()
            .with_context(|| format!("--cluster-cidr={text} names no IPv4 network"))
    });
    let Some(pods) = pods.transpose()? else {
        bail!("--cluster-cidr is needed: which addresses are those of pods");
    };
    let node_port_addresses = flags.nodeport_addresses.iter().copied().map(cidr);
    let settings = Settings {
        service_cidr: flags.service_cluster_ip_range.map(cidr),
        cluster_cidr: Some(cidr(pods)),
        node_port_addresses: node_port_addresses.collect(),
    };
    let node = flags.hostname_override.clone();
    let node = node.unwrap_or_else(super::kubelet::host_name);
    let config = Config {
        settings,
        node,
        // Served beside the metrics, in the way of all components.
        healthz: None,
    };
    let (ready, is_ready) = watch::channel(false);
    let configuration = flags.configuration(path);
    show(&flags, &configuration, requests, is_ready).await?;
    tokio::select! {
        ended = service_proxy::run(client, config, ready) => {
            ended?;
            bail!("the service proxy ended")
        }
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn show(
    flags: &Flags,
    configuration: &Value,
    requests: Requests,
    ready: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let page = |path, media_type, text: Box<dyn Fn() -> (u16, String) + Send + Sync>| Page {
        path,
        media_type,
        open: true,
        text,
    };
    let health = |path| {
        let ready = ready.clone();
        let text = move || {
            let now = Timestamp::now();
            let status = if *ready.borrow() { 200 } else { 503 };
            let text = format!(
                "{{\"lastUpdated\": \"{now}\",\"currentTime\": \"{now}\", \"nodeEligible\": true}}"
            );
            (status, text)
        };
        page(path, "application/json", Box::new(text))
    };
    if let Some(address) = address(&flags.healthz_bind_address, 10256)? {
        let endpoints = Endpoints {
            checks: Vec::new(),
            pages: vec![health("/healthz"), health("/livez")],
            told: None,
            access: None,
        };
        tokio::spawn(endpoints.serve_plain(address).await?);
    }
    if let Some(address) = address(&flags.metrics_bind_address, 10249)? {
        let text = "text/plain; charset=utf-8";
        let endpoints = Endpoints {
            checks: vec![health::ping(&["healthz"])],
            told: Some(Told {
                component: COMPONENT,
                flags: flags.common.told(),
            }),
            pages: vec![
                page(
                    "/proxyMode",
                    text,
                    Box::new(|| (200, "nftables".to_owned())),
                ),
                serving::configz::page(configz::PROXY, configuration, true),
                page(
                    "/metrics",
                    text,
                    Box::new(move || (200, health::process() + &requests.render())),
                ),
            ],
            access: None,
        };
        tokio::spawn(endpoints.serve_plain(address).await?);
    }
    Ok(())
}
