//! The components of a node, each with its own identity.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use access::{User, user};
use anyhow::{Context, anyhow};
use apiserver::{Server, TlsSettings};
use controller_manager::{Addresses, Authority, NodeLifecycle, Ranges, Selection, Signing};
use kube::Client;
use linux::namespace::Namespace;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::api::{Pki, Pulses};
use super::dns;
use crate::cluster::{API_PORT, CLUSTER_DOMAIN, DNS_SERVICE, POD_CIDR, SERVICE_CIDR};
use crate::member::NodeConfig;
use crate::root::{PROGRAM, RUN, STATE};
use crate::worker::{
    Clients, KUBELET_ROOT, MANIFESTS, Networks, POD_LOGS, Places, Serving, Tasks, Worker,
};
use crate::{storage_class, token_signer};

/// How much of the pod network a node gets.
const NODE_PREFIX: u8 = 24;

/// What runs in this process; none of it ends by itself.
pub(super) struct Components {
    server: Arc<Server>,
    pub(super) config: NodeConfig,
    pub(super) tasks: Tasks,
    pulses: Pulses,
    shutdown: CancellationToken,
    /// The rules of all services that existed at the start are in the kernel.
    pub(super) proxy_ready: watch::Receiver<bool>,
    /// The cluster DNS knows all services that existed at the start.
    pub(super) dns_ready: watch::Receiver<bool>,
}

/// The user of this name, with the groups its credentials would give it.
pub(crate) fn identity(name: &str) -> User {
    match user::split_service_account(name) {
        Some((namespace, account)) => User::service_account(namespace, account, ""),
        None if name.starts_with(user::NODE_USER_PREFIX) => User::new(name, &[user::SYSTEM_NODES]),
        None => User::new(name, &[]),
    }
}

/// A client of this component that acts as this user; it is authorized like any other.
pub(crate) fn client(server: &Arc<Server>, component: &str, user: User) -> Client {
    client::connect::component(component, server.in_process(user))
}

impl Components {
    pub(super) fn new(
        server: Arc<Server>,
        config: NodeConfig,
        pulses: Pulses,
        shutdown: CancellationToken,
    ) -> Self {
        let (proxy_ready, dns_ready) = (watch::channel(false).1, watch::channel(false).1);
        Self {
            server,
            config,
            tasks: Tasks::new(),
            pulses,
            shutdown,
            proxy_ready,
            dns_ready,
        }
    }

    /// A client of the administrator, for what the cluster itself is made of.
    pub(super) fn admin(&self) -> Client {
        client(
            &self.server,
            "oxikube",
            User::new("oxikube", &[user::SYSTEM_MASTERS]),
        )
    }

    fn client(&self, component: &str, name: &str) -> Client {
        client(&self.server, component, identity(name))
    }

    /// Serves the API on the node's own address and on the machine's socket.
    pub(super) async fn serve_api(
        &mut self,
        machine: std::net::TcpListener,
        tls: TlsSettings,
    ) -> anyhow::Result<()> {
        machine.set_nonblocking(true)?;
        let machine = TcpListener::from_std(machine)?;
        let node = TcpListener::bind((Ipv4Addr::UNSPECIFIED, API_PORT)).await;
        let node = node.with_context(|| format!("cannot listen on port {API_PORT} of the node"))?;
        let server = self.server.clone();
        self.tasks.spawn(async move {
            server
                .serve(vec![machine, node], tls)
                .await
                .context("the API server ended")
        });
        Ok(())
    }

    /// Starts everything that needs the API.
    pub(super) async fn start(&mut self, pki: &Pki, host_network: Namespace) -> anyhow::Result<()> {
        let authority = Authority::from_pem(&pki.text("ca.crt")?, &pki.text("ca.key")?)?;
        self.controllers(pki, Signing::all(authority))?;
        let scheduler = self.client("kube-scheduler", user::KUBE_SCHEDULER);
        let work = self.pulses.scheduler.during(scheduler::run(scheduler));
        self.tasks.spawn(async move {
            work.await;
            Err(anyhow!("the scheduler ended"))
        });
        let mut worker = worker(&self.config, pki, Some(host_network))?;
        let clients = Clients {
            kubelet: self.client(
                "kubelet",
                &format!("{}{}", user::NODE_USER_PREFIX, worker.name),
            ),
            proxy: self.client("kube-proxy", user::KUBE_PROXY),
        };
        let (shutdown, tasks) = (self.shutdown.clone(), &mut self.tasks);
        worker.start_kubelet(&clients, &shutdown, tasks).await?;
        worker.start_network(&clients, tasks);
        let place = dns::Place {
            node: self.config.name(),
            address: self.config.address(),
            service: DNS_SERVICE,
        };
        dns::settle(self.admin(), &place)
            .await
            .context("the cluster DNS cannot be set up")?;
        storage_class::settle(self.admin())
            .await
            .context("the storage class cannot be made")?;
        self.proxy_ready = worker.start_proxy(&clients, &mut self.tasks);
        self.dns().await
    }

    fn controllers(&mut self, pki: &Pki, signing: Signing) -> anyhow::Result<()> {
        let server = self.server.clone();
        let clients =
            Arc::new(move |name: &str| client(&server, "kube-controller-manager", identity(name)));
        let pod_network = POD_CIDR.parse().context("the pod network")?;
        let grace = Duration::from_secs(self.config.cluster.node_grace_seconds);
        let config = controller_manager::Config {
            clients,
            root_certificates: pki.text("ca.crt")?.into(),
            token_signer: Some(token_signer::from_pem(&pki.text("sa.key")?)?),
            signing,
            selection: Selection::default(),
            pod_networks: Ranges {
                cluster: vec![(pod_network, NODE_PREFIX)],
                excluded: vec![SERVICE_CIDR.parse().context("the service network")?],
            },
            node_lifecycle: NodeLifecycle {
                node_monitor_grace_period: grace,
                ..NodeLifecycle::default()
            },
            load_balancers: Some(Addresses::Pool(vec![self.config.cluster.load_balancers()])),
        };
        let shutdown = self.shutdown.clone().cancelled_owned();
        let work = controller_manager::run(config, shutdown);
        let work = self.pulses.controllers.during(work);
        self.tasks.spawn(async move {
            work.await;
            Err(anyhow!("the controllers ended"))
        });
        Ok(())
    }

    async fn dns(&mut self) -> anyhow::Result<()> {
        let (ready, dns_ready) = watch::channel(false);
        self.dns_ready = dns_ready;
        let client = self.client("coredns", dns::USER);
        let address = SocketAddr::new(self.config.address().into(), dns::PORT);
        let serving = dns::serve(client, CLUSTER_DOMAIN, address, ready).await?;
        self.tasks.spawn(async move {
            serving.await;
            Err(anyhow!("the cluster DNS ended"))
        });
        Ok(())
    }
}

/// This node, as one of the nodes of its cluster.
pub(super) fn worker(
    config: &NodeConfig,
    pki: &Pki,
    registry_network: Option<Namespace>,
) -> anyhow::Result<Worker> {
    Ok(Worker {
        name: config.name(),
        address: config.address(),
        networks: Networks {
            pods: POD_CIDR.parse().context("the pod network")?,
            services: SERVICE_CIDR.parse().context("the service network")?,
            dns: DNS_SERVICE,
            domain: CLUSTER_DOMAIN.to_owned(),
            backend: config.cluster.network_backend,
        },
        places: Places {
            state: STATE.into(),
            run: RUN.into(),
            kubelet: KUBELET_ROOT.into(),
            logs: POD_LOGS.into(),
            cgroup: String::new(),
            manifests: Some(MANIFESTS.into()),
            shim: vec![PROGRAM.into(), "shim".into()],
        },
        serving: Serving {
            certificate: serving::Certificate::from_pem(
                &pki.text("kubelet-server.crt")?,
                &pki.text("kubelet-server.key")?,
            )?,
            client_ca: pki.text("ca.crt")?,
        },
        registry_network,
        labels: BTreeMap::new(),
        taints: Vec::new(),
    })
}

/// What it means that a component has ended.
pub(crate) fn ended(result: Option<Result<anyhow::Result<()>, JoinError>>) -> anyhow::Result<()> {
    match result {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a component broke"),
        Some(Ok(Ok(()))) | None => Err(anyhow!("a component ended")),
    }
}
