//! `kube-controller-manager`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use clap::builder::ArgAction;
use client::requests::Requests;
use controller_manager::{
    API_CLIENT, Addresses, Authority, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN,
    NodeLifecycle, Ranges, Selection, Signing,
};
use ipnet::IpNet;
use serde_json::{Value, json};
use serving::configz::seconds;
use tokio_util::sync::CancellationToken;

use super::configz;
use super::credentials::{self, Accounts};
use super::elect::{self, Leading};
use super::flags::{Common, Election, Secure, duration, read};
use super::health::{self, Shown};
use crate::token_signer;

const COMPONENT: &str = "kube-controller-manager";

/// Runs the controllers.
#[derive(Parser)]
#[command(
    name = COMPONENT,
    args_override_self = true,
    version = "v1.37.0"
)]
pub(super) struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    secure: Secure,
    #[command(flatten)]
    election: Election,
    #[command(flatten)]
    signing: SigningFlags,
    #[command(flatten)]
    nodes: NodeFlags,
    /// Port of HTTPS; 0: none.
    #[arg(long, default_value_t = 10257)]
    secure_port: u16,
    /// How to reach the API server, and as whom.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API server, instead of the one in the kubeconfig.
    #[arg(long)]
    master: Option<String>,
    /// Which controllers run: `*`, `name`, `-name`.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    controllers: Vec<String>,
    /// Every controller acts as a service account of its own.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_service_account_credentials: bool,
    /// Nodes get their parts of the pod network.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    allocate_node_cidrs: bool,
    /// The pod network.
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// How much of it a node gets.
    #[arg(long, default_value_t = 24)]
    node_cidr_mask_size: u8,
    /// The service network, of which no node gets a part.
    #[arg(long, value_delimiter = ',')]
    service_cluster_ip_range: Vec<IpNet>,
    /// Name of the cluster; only clouds ask for it.
    #[arg(long, default_value = "kubernetes")]
    cluster_name: String,
    /// File with the authority that pods check the API server with.
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// Key of the tokens that secrets of type kubernetes.io/service-account-token are filled with.
    #[arg(long)]
    service_account_private_key_file: Option<PathBuf>,
    /// Requests a second; they are not limited here.
    #[arg(long)]
    kube_api_qps: Option<f64>,
    /// Requests at once; they are not limited here.
    #[arg(long)]
    kube_api_burst: Option<u32>,
}

/// When nodes count as lost, and how fast their pods are driven out.
#[derive(clap::Args)]
struct NodeFlags {
    /// How long a node may be silent before it counts as lost.
    #[arg(long, default_value = "50s", value_parser = duration, value_name = "DURATION")]
    node_monitor_grace_period: Duration,
    /// How long a new node may take to tell its status for the first time.
    #[arg(long, default_value = "1m0s", value_parser = duration, value_name = "DURATION")]
    node_startup_grace_period: Duration,
    /// How often nodes are looked at; they are looked at when something is due.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    node_monitor_period: Duration,
    /// Nodes a second of one zone whose pods are driven out.
    #[arg(long, default_value_t = 0.1)]
    node_eviction_rate: f64,
    /// The same when much of a large zone is down.
    #[arg(long, default_value_t = 0.01)]
    secondary_node_eviction_rate: f64,
    /// The part of a zone's nodes (at least three) from which on much of it is down.
    #[arg(long, default_value_t = 0.55)]
    unhealthy_zone_threshold: f64,
    /// Zones up to this size are small: when much of one is down, nobody is driven out.
    #[arg(long, default_value_t = 50)]
    large_cluster_size_threshold: usize,
    /// Addresses for services of type LoadBalancer, `FIRST-LAST`; without any, somebody else gives them.
    #[arg(long, value_delimiter = ',', value_parser = range, value_name = "FIRST-LAST")]
    load_balancer_range: Vec<RangeInclusive<Ipv4Addr>>,
}

impl NodeFlags {
    fn lifecycle(&self) -> NodeLifecycle {
        NodeLifecycle {
            node_monitor_grace_period: self.node_monitor_grace_period,
            node_startup_grace_period: self.node_startup_grace_period,
            node_eviction_rate: self.node_eviction_rate,
            secondary_node_eviction_rate: self.secondary_node_eviction_rate,
            unhealthy_zone_threshold: self.unhealthy_zone_threshold,
            large_cluster_size_threshold: self.large_cluster_size_threshold,
        }
    }

    fn configuration(&self) -> Value {
        json!({
            "NodeEvictionRate": self.node_eviction_rate,
            "SecondaryNodeEvictionRate": self.secondary_node_eviction_rate,
            "NodeStartupGracePeriod": seconds(self.node_startup_grace_period),
            "NodeMonitorGracePeriod": seconds(self.node_monitor_grace_period),
            "LargeClusterSizeThreshold": self.large_cluster_size_threshold,
            "UnhealthyZoneThreshold": self.unhealthy_zone_threshold,
        })
    }

    fn load_balancers(&self) -> Option<Addresses> {
        let ranges = self.load_balancer_range.clone();
        (!ranges.is_empty()).then_some(Addresses::Pool(ranges))
    }
}

/// Two addresses, the first and the last.
fn range(text: &str) -> Result<RangeInclusive<Ipv4Addr>, String> {
    let wrong = || format!("{text} is not FIRST-LAST, two IPv4 addresses");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(wrong()),
    }
}

/// Who signs certificates.
#[derive(clap::Args)]
struct SigningFlags {
    /// File with the certificate of the authority that signs requests for certificates.
    #[arg(long, requires = "cluster_signing_key_file")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long, requires = "cluster_signing_cert_file")]
    cluster_signing_key_file: Option<PathBuf>,
    /// For how long certificates are signed at most.
    #[arg(long, default_value = "8760h", value_parser = duration, value_name = "DURATION")]
    cluster_signing_duration: Duration,
    /// Another authority for the signer kubernetes.io/kubelet-serving.
    #[arg(long, requires = "cluster_signing_kubelet_serving_key_file")]
    cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    /// Another authority for the signer kubernetes.io/kube-apiserver-client-kubelet.
    #[arg(long, requires = "cluster_signing_kubelet_client_key_file")]
    cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    /// Another authority for the signer kubernetes.io/kube-apiserver-client.
    #[arg(long, requires = "cluster_signing_kube_apiserver_client_key_file")]
    cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    /// Another authority for the signer kubernetes.io/legacy-unknown.
    #[arg(long, requires = "cluster_signing_legacy_unknown_key_file")]
    cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
}

impl SigningFlags {
    fn signing(&self) -> anyhow::Result<Signing> {
        let mut signers: BTreeMap<&'static str, Arc<Authority>> = BTreeMap::new();
        let all = (
            &self.cluster_signing_cert_file,
            &self.cluster_signing_key_file,
        );
        let own = [
            (
                KUBELET_SERVING,
                &self.cluster_signing_kubelet_serving_cert_file,
                &self.cluster_signing_kubelet_serving_key_file,
            ),
            (
                KUBELET_CLIENT,
                &self.cluster_signing_kubelet_client_cert_file,
                &self.cluster_signing_kubelet_client_key_file,
            ),
            (
                API_CLIENT,
                &self.cluster_signing_kube_apiserver_client_cert_file,
                &self.cluster_signing_kube_apiserver_client_key_file,
            ),
            (
                LEGACY_UNKNOWN,
                &self.cluster_signing_legacy_unknown_cert_file,
                &self.cluster_signing_legacy_unknown_key_file,
            ),
        ];
        if all.0.is_some() && own.iter().any(|(_, certificate, _)| certificate.is_some()) {
            bail!(
                "cannot specify --cluster-signing-{{cert,key}}-file and other \
                 --cluster-signing-*-file flags at the same time"
            );
        }
        for (name, certificate, key) in own {
            if let (Some(certificate), Some(key)) = (
                certificate.as_ref().or(all.0.as_ref()),
                key.as_ref().or(all.1.as_ref()),
            ) {
                let authority = Authority::from_pem(&read(certificate)?, &read(key)?);
                let authority =
                    authority.with_context(|| format!("cannot use {}", certificate.display()))?;
                signers.insert(name, Arc::new(authority));
            }
        }
        Ok(Signing {
            signers,
            max_seconds: i64::try_from(self.cluster_signing_duration.as_secs()).unwrap_or(i64::MAX),
            approves_serving: false,
        })
    }
}

impl super::Flags for Flags {
    fn common(&self) -> &Common {
        &self.common
    }

    const DEPRECATED: &'static [(&'static str, &'static str)] = &[
        (
            "kube-api-qps",
            "This parameter is ignored: requests are not limited on the client's side.",
        ),
        (
            "kube-api-burst",
            "This parameter is ignored: requests are not limited on the client's side.",
        ),
    ];
}

impl Flags {
    fn ranges(&self) -> anyhow::Result<Ranges> {
        if !self.allocate_node_cidrs {
            return Ok(Ranges::default());
        }
        if self.cluster_cidr.is_empty() {
            bail!("--cluster-cidr must be given with --allocate-node-cidrs");
        }
        let size = self.node_cidr_mask_size;
        let cluster = self.cluster_cidr.iter().map(|network| {
            if size < network.prefix_len() {
                bail!("--node-cidr-mask-size={size} is larger than --cluster-cidr={network}");
            }
            Ok((*network, size))
        });
        Ok(Ranges {
            cluster: cluster.collect::<anyhow::Result<_>>()?,
            excluded: self.service_cluster_ip_range.clone(),
        })
    }
}

impl Flags {
    /// The page at `/configz`.
    fn configuration(&self, kubeconfig: &Path) -> Value {
        let words = |networks: &[IpNet]| {
            let words: Vec<String> = networks.iter().map(IpNet::to_string).collect();
            words.join(",")
        };
        let own = &self.signing;
        let signer = |certificate: &Option<PathBuf>, key: &Option<PathBuf>| {
            json!({
                "CertFile": configz::path(certificate.as_ref()),
                "KeyFile": configz::path(key.as_ref()),
            })
        };
        let root = configz::path(self.root_ca_file.as_ref());
        let tokens = configz::path(self.service_account_private_key_file.as_ref());
        json!({
            "kind": "KubeControllerManagerConfiguration",
            "apiVersion": "kubecontrollermanager.config.k8s.io/v1alpha1",
            "Generic": {
                "ClientConnection": configz::connection(kubeconfig),
                "LeaderElection": configz::election(&self.election, COMPONENT),
                "Controllers": self.controllers,
            },
            "KubeCloudShared": {
                "UseServiceAccountCredentials": self.use_service_account_credentials,
                "ClusterName": self.cluster_name,
                "ClusterCIDR": words(&self.cluster_cidr),
                "AllocateNodeCIDRs": self.allocate_node_cidrs,
                "CIDRAllocatorType": "RangeAllocator",
            },
            "CSRSigningController": {
                "ClusterSigningCertFile": configz::path(own.cluster_signing_cert_file.as_ref()),
                "ClusterSigningKeyFile": configz::path(own.cluster_signing_key_file.as_ref()),
                "KubeletServingSignerConfiguration": signer(
                    &own.cluster_signing_kubelet_serving_cert_file,
                    &own.cluster_signing_kubelet_serving_key_file,
                ),
                "KubeletClientSignerConfiguration": signer(
                    &own.cluster_signing_kubelet_client_cert_file,
                    &own.cluster_signing_kubelet_client_key_file,
                ),
                "KubeAPIServerClientSignerConfiguration": signer(
                    &own.cluster_signing_kube_apiserver_client_cert_file,
                    &own.cluster_signing_kube_apiserver_client_key_file,
                ),
                "LegacyUnknownSignerConfiguration": signer(
                    &own.cluster_signing_legacy_unknown_cert_file,
                    &own.cluster_signing_legacy_unknown_key_file,
                ),
                "ClusterSigningDuration": seconds(own.cluster_signing_duration),
            },
            "NodeIPAMController": {
                "ServiceCIDR": words(&self.service_cluster_ip_range),
                "NodeCIDRMaskSize": self.node_cidr_mask_size,
            },
            "NodeLifecycleController": self.nodes.configuration(),
            "SAController": {"ServiceAccountKeyFile": tokens, "RootCAFile": root},
        })
    }
}

/// Runs until `shutdown`.
pub(super) async fn serve(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let path = credentials::required(flags.kubeconfig.as_ref(), None)?;
    let configuration = flags.configuration(path);
    let config = credentials::config(COMPONENT, path, flags.master.as_deref()).await?;
    let requests = Requests::default();
    let client = requests.client(config.clone())?;
    let accounts = match flags.use_service_account_credentials {
        true => Some(Accounts::new(config, &requests)?),
        false => None,
    };
    let main = client.clone();
    let clients = move |name: &str| match (&accounts, access::user::split_service_account(name)) {
        (Some(accounts), Some((_, account))) => accounts.client(account),
        _ => main.clone(),
    };
    let root = match &flags.root_ca_file {
        Some(file) => Some(read(file)?),
        None => None,
    };
    let token_signer = match &flags.service_account_private_key_file {
        Some(file) => Some(token_signer::from_pem(&read(file)?)?),
        None => None,
    };
    let mut words = flags.controllers.clone();
    if root.is_none() {
        // Without an authority there is nothing to publish.
        words.insert(0, "-root-ca-certificate-publisher-controller".to_owned());
    }
    let config = controller_manager::Config {
        clients: Arc::new(clients),
        root_certificates: root.unwrap_or_default().into(),
        token_signer,
        pod_networks: flags.ranges()?,
        signing: flags.signing.signing()?,
        selection: Selection::parse(&words)?,
        node_lifecycle: flags.nodes.lifecycle(),
        load_balancers: flags.nodes.load_balancers(),
    };
    let leading = Leading::default();
    let figures: Arc<OnceLock<controller_manager::Metrics>> = Arc::default();
    let queues = Arc::clone(&figures);
    let shown = Shown {
        component: COMPONENT,
        port: flags.secure_port,
        leading: Some(leading.clone()),
        // There are queues from when this process leads.
        metrics: Box::new(move || {
            let queues = queues.get().map(controller_manager::figures);
            queues.unwrap_or_default() + &requests.render()
        }),
        checks: vec![health::election(&["healthz"])],
        flags: flags.common.told(),
        configuration: (configz::CONTROLLER_MANAGER, configuration),
    };
    health::serve(&flags.secure, shown).await?;
    let names = (COMPONENT, COMPONENT);
    elect::work(
        client,
        &flags.election,
        names,
        &leading,
        &shutdown,
        |stop| {
            let tell = move |metrics| {
                let _ = figures.set(metrics);
            };
            controller_manager::run_told(config, stop.cancelled_owned(), tell)
        },
    )
    .await
}
