//! `kubelet`.

mod configuration;
mod identity;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use clap::builder::ArgAction;
use client::requests::Requests;
use cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::Taint;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::apiserver::own_address;
use super::credentials;
use super::flags::{Common, duration, pairs, read};
use crate::worker::{Clients, Networks, Places, Serving, Tasks, Worker};
use configuration::Configuration;

const COMPONENT: &str = "kubelet";

/// The word for the runtime in this binary.
const EMBEDDED: &str = "embedded";

/// Runs the pods of a node.
#[derive(Parser)]
#[command(
    name = COMPONENT,
    args_override_self = true,
    version = "Kubernetes v1.37.0"
)]
pub(super) struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    configuration: ConfigurationFlags,
    /// How to reach the API server, and as whom; made by --bootstrap-kubeconfig when it is not there.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// How to reach the API server before there is a client certificate.
    #[arg(long)]
    bootstrap_kubeconfig: Option<PathBuf>,
    /// A file with a KubeletConfiguration.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Directory of certificates that the API server has signed.
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    cert_dir: PathBuf,
    /// Directory of volumes and the like.
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Directory of the runtime in this binary. Not a flag of upstream's, which has none.
    #[arg(long, default_value = "/var/lib/oxikube/runtime")]
    runtime_dir: PathBuf,
    /// The pod network of the runtime in this binary. Not a flag of upstream's.
    #[arg(long, default_value = crate::cluster::POD_CIDR)]
    cluster_cidr: ipnet::Ipv4Net,
    /// How packets travel between nodes (vxlan, host-gw or udp): what pods' interfaces leave room for. Not a flag of
    /// upstream's.
    #[arg(long, default_value_t)]
    network_backend: overlay::Backend,
    /// Kubeconfig with which the runtime in this binary looks where the other nodes are (kube-proxy's will do); without it
    /// others lead packets to their pods. Not a flag of upstream's.
    #[arg(long)]
    network_kubeconfig: Option<PathBuf>,
    /// The node's name, instead of the host's.
    #[arg(long)]
    hostname_override: Option<String>,
    /// The node's address; the host's own when not given.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Labels that the node registers with.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    node_labels: Vec<String>,
}

/// Flags that a configuration file has as well; the flag has the last word.
#[derive(clap::Args)]
struct ConfigurationFlags {
    /// Socket of the container runtime: unix:///path, or `embedded` for the one in this binary.
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    /// Socket for images, where it is another.
    #[arg(long)]
    image_service_endpoint: Option<String>,
    /// Make the Node object when it is not there.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    register_node: Option<bool>,
    /// Taints that the node registers with.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE:EFFECT")]
    register_with_taints: Vec<String>,
    /// Directory of pods that run without the API.
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
    /// How many pods the node takes.
    #[arg(long)]
    max_pods: Option<u32>,
    /// How often the status is told when nothing changes.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    node_status_update_frequency: Option<Duration>,
    /// Address of the HTTPS port.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The HTTPS port.
    #[arg(long)]
    port: Option<u16>,
    /// Port of /healthz without TLS; 0: none.
    #[arg(long)]
    healthz_port: Option<u16>,
    /// Its address.
    #[arg(long)]
    healthz_bind_address: Option<IpAddr>,
    /// File with the authority of clients' certificates.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// File with the serving certificate.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long)]
    tls_private_key_file: Option<PathBuf>,
    /// Renew the client certificate before it expires.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    rotate_certificates: Option<bool>,
    /// Have the serving certificate signed by the API server.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    rotate_server_certificates: Option<bool>,
    /// Addresses of the cluster DNS.
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<String>,
    /// Domain of services.
    #[arg(long)]
    cluster_domain: Option<String>,
    /// The host's resolver configuration.
    #[arg(long)]
    resolv_conf: Option<PathBuf>,
    /// The control group in which pods get theirs.
    #[arg(long)]
    cgroup_root: Option<String>,
}

impl super::Flags for Flags {
    fn common(&self) -> &Common {
        &self.common
    }
}

impl ConfigurationFlags {
    /// Flags over what the file says.
    fn over(self, mut file: Configuration) -> anyhow::Result<Configuration> {
        fn put<T>(flag: Option<T>, slot: &mut T) {
            if let Some(value) = flag {
                *slot = value;
            }
        }
        put(
            self.container_runtime_endpoint,
            &mut file.container_runtime_endpoint,
        );
        put(
            self.image_service_endpoint,
            &mut file.image_service_endpoint,
        );
        put(self.register_node, &mut file.register_node);
        put(self.max_pods, &mut file.max_pods);
        put(
            self.node_status_update_frequency,
            &mut file.node_status_update_frequency,
        );
        put(self.address, &mut file.address);
        put(self.port, &mut file.port);
        put(self.healthz_port, &mut file.healthz_port);
        put(self.healthz_bind_address, &mut file.healthz_bind_address);
        put(self.rotate_certificates, &mut file.rotate_certificates);
        put(
            self.rotate_server_certificates,
            &mut file.server_tls_bootstrap,
        );
        put(self.cluster_domain, &mut file.cluster_domain);
        put(self.resolv_conf, &mut file.resolv_conf);
        put(self.cgroup_root, &mut file.cgroup_root);
        for (flag, slot) in [
            (self.pod_manifest_path, &mut file.static_pod_path),
            (self.client_ca_file, &mut file.client_ca_file),
            (self.tls_cert_file, &mut file.tls_cert_file),
            (self.tls_private_key_file, &mut file.tls_private_key_file),
        ] {
            if flag.is_some() {
                *slot = flag;
            }
        }
        if !self.cluster_dns.is_empty() {
            file.cluster_dns = self.cluster_dns;
        }
        if !self.register_with_taints.is_empty() {
            let taints = self.register_with_taints.iter().map(|text| taint(text));
            file.register_with_taints = taints.collect::<anyhow::Result<_>>()?;
        }
        Ok(file)
    }
}

/// `key=value:effect` or `key:effect`.
pub(crate) fn taint(text: &str) -> anyhow::Result<Taint> {
    let wrong = || format!("{text:?} is no taint of the form key=value:effect");
    let (rest, effect) = text.rsplit_once(':').with_context(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("{}", wrong());
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Ok(Taint {
        key: key.to_owned(),
        value: Some(value.to_owned()).filter(|v| !v.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// The host's name, as nodes are called.
pub(crate) fn host_name() -> String {
    plain_host_name().trim().to_lowercase()
}

/// The host's name, as the kernel has it.
pub(crate) fn plain_host_name() -> String {
    let about = rustix::system::uname();
    about.nodename().to_string_lossy().into_owned()
}

type Runtime = (Arc<dyn RuntimeService>, Arc<dyn ImageService>);

/// The runtime that is asked for: that of this binary, or one behind a socket.
async fn runtime(
    endpoint: &str,
    images: &str,
    (client, network): (&Client, Option<Client>),
    worker: &mut Worker,
    shutdown: &CancellationToken,
    tasks: &mut Tasks,
) -> anyhow::Result<Runtime> {
    if matches!(endpoint, "" | EMBEDDED) {
        crate::cluster::make_private_dir(&worker.places.run)?;
        let own = worker.start_runtime(shutdown, tasks).await?;
        if let Some(proxy) = network {
            let kubelet = client.clone();
            worker.start_network(&Clients { kubelet, proxy }, tasks);
        }
        return Ok((own.clone(), own));
    }
    let remote = Arc::new(cri::remote::Remote::new(endpoint)?);
    Ok(match images {
        "" => (remote.clone(), remote),
        images => (remote, Arc::new(cri::remote::Remote::new(images)?)),
    })
}

/// Runs until `shutdown`.
pub(super) async fn serve(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let file = match &flags.config {
        Some(path) => Configuration::read(&read(path)?)
            .with_context(|| format!("cannot use {}", path.display()))?,
        None => Configuration::default(),
    };
    let configuration = flags.configuration.over(file)?;
    let name = flags.hostname_override.clone().unwrap_or_else(host_name);
    let address = match flags.node_ip {
        Some(address) if !address.is_unspecified() => address,
        _ => own_address()?,
    };
    let IpAddr::V4(ipv4) = address else {
        bail!("--node-ip={address}: nodes have IPv4 addresses here");
    };
    let (cert_dir, mut tasks) = (flags.cert_dir.clone(), Tasks::new());
    let place = identity::Place {
        node: name.clone(),
        dir: cert_dir,
        kubeconfig: flags.kubeconfig.clone(),
        bootstrap: flags.bootstrap_kubeconfig.clone(),
    };
    let requests = Requests::default();
    let renews = configuration.rotate_certificates;
    let client = identity::client(&place, renews, &requests, &mut tasks).await?;
    let certificate =
        identity::serving(&place, &configuration, &client, vec![address], &mut tasks).await?;
    let mut worker = Worker {
        name: name.clone(),
        address: ipv4,
        networks: Networks {
            pods: flags.cluster_cidr,
            services: crate::cluster::SERVICE_CIDR.parse()?,
            dns: Ipv4Addr::UNSPECIFIED,
            domain: configuration.cluster_domain.clone(),
            backend: flags.network_backend,
        },
        places: Places {
            state: flags.runtime_dir.clone(),
            run: flags.runtime_dir.join("run"),
            kubelet: flags.root_dir.clone(),
            logs: configuration.pod_logs_dir.clone(),
            cgroup: configuration.cgroup_root.trim_matches('/').to_owned(),
            shim: vec![std::env::current_exe()?.into(), "shim".into()],
            manifests: None,
        },
        serving: Serving {
            certificate: certificate.clone(),
            client_ca: String::new(),
        },
        registry_network: None,
        labels: pairs(&flags.node_labels)?,
        taints: configuration.register_with_taints.clone(),
    };
    let (endpoint, images) = (
        configuration.container_runtime_endpoint.as_str(),
        configuration.image_service_endpoint.as_str(),
    );
    let network = match &flags.network_kubeconfig {
        Some(path) => Some(Client::try_from(
            credentials::config(COMPONENT, path, None).await?,
        )?),
        None => None,
    };
    let (runtime, images) = runtime(
        endpoint,
        images,
        (&client, network),
        &mut worker,
        &shutdown,
        &mut tasks,
    )
    .await?;
    let told = configuration.told(&flags.runtime_dir);
    let client_ca = configuration
        .client_ca_file
        .as_deref()
        .map(read)
        .transpose()?;
    let config = ::kubelet::Config {
        node_name: name,
        client,
        runtime,
        images,
        root_dir: flags.root_dir.clone(),
        log_dir: configuration.pod_logs_dir.clone(),
        node_ips: vec![address.to_string()],
        cluster_dns: configuration.cluster_dns.clone(),
        cluster_domain: configuration.cluster_domain.clone(),
        resolv_conf: configuration.resolv_conf.clone(),
        labels: worker.labels.clone(),
        taints: worker.taints.clone(),
        max_pods: configuration.max_pods,
        cpu_milli: None,
        memory_bytes: None,
        cgroup_root: Some(worker.places.cgroup.clone()),
        server: Some(::kubelet::ServerConfig {
            address: SocketAddr::new(configuration.address, configuration.port),
            certificate,
            client_ca: client_ca.unwrap_or_default(),
            flags: flags.common.told(),
            configuration: told,
            requests,
        }),
        healthz: (configuration.healthz_port != 0).then(|| {
            SocketAddr::new(
                configuration.healthz_bind_address,
                configuration.healthz_port,
            )
        }),
        registers: configuration.register_node,
        static_pods: configuration.static_pod_path.clone(),
        status_every: configuration.node_status_update_frequency,
    };
    tokio::select! {
        ended = ::kubelet::run(config, shutdown.clone()) => Ok(ended?),
        ended = tasks.join_next(), if !tasks.is_empty() => crate::node::ended(ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_written_as_everywhere() {
        let read = taint("gpu=yes:NoSchedule").expect("a taint");
        assert_eq!(
            (read.key.as_str(), read.value.as_deref()),
            ("gpu", Some("yes"))
        );
        assert_eq!(taint("gpu:NoExecute").expect("a taint").value, None);
        assert!(taint("gpu").is_err() && taint("gpu=1:Never").is_err());
    }
}
