//! `oxikube server`: the control plane and a node, on the machine itself.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use access::{User, user};
use anyhow::{Context, anyhow};
use apiserver::{Pulse, Server};
use clap::Args;
use client::election::{Election, Ended, lead};
use controller_manager::{Addresses, Authority, NodeLifecycle, Ranges, Selection, Signing};
use ipnet::Ipv4Net;
use kube::Client;
use overlay::Backend;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::token::Token;
use super::{ClusterFacts, KUBECONFIG, NodeFlags, notify_ready, objects, shared, unit};
use crate::cluster::{CLUSTER_DOMAIN, POD_CIDR, SERVICE_CIDR, make_private_dir, write_private};
use crate::component;
use crate::datastore;
use crate::encryption;
use crate::node::api::{self, Pki, Pulses};
use crate::node::components::{client, ended, identity};
use crate::node::dns;
use crate::worker::{Clients, Serving, Tasks, Worker};
use crate::{kubeconfig, pki, storage_class, token_signer};

/// Taken by the kubelet on every node.
const KUBELET_PORT: u16 = 10250;
/// How much of the pod network a node gets.
const NODE_PREFIX: u8 = 24;

/// Flags of `oxikube server`.
#[derive(Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    node: NodeFlags,
    /// Port of the API.
    #[arg(long, default_value_t = crate::cluster::API_PORT)]
    https_listen_port: u16,
    /// Address on which the API listens.
    #[arg(long, default_value_t = Ipv4Addr::UNSPECIFIED)]
    bind_address: Ipv4Addr,
    /// The pod network.
    #[arg(long, default_value = POD_CIDR)]
    cluster_cidr: Ipv4Net,
    /// The service network.
    #[arg(long, default_value = SERVICE_CIDR)]
    service_cidr: Ipv4Net,
    /// Domain of services.
    #[arg(long, default_value = CLUSTER_DOMAIN)]
    cluster_domain: String,
    /// How packets travel between nodes: vxlan, host-gw or udp.
    #[arg(long, default_value = "vxlan")]
    network_backend: Backend,
    /// Further names and addresses under which the API is reached.
    #[arg(long, value_delimiter = ',')]
    tls_san: Vec<String>,
    /// The token by which nodes join, <id>.<secret>; one is made when not given.
    #[arg(long, env = "OXIKUBE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    audit: component::audit::AuditFlags,
    #[command(flatten)]
    datastore: datastore::Flags,
    #[command(flatten)]
    encryption: encryption::OwnFlags,
    /// Where the administrator's kubeconfig is written.
    #[arg(long, default_value = KUBECONFIG)]
    write_kubeconfig: PathBuf,
    /// No node here: only the control plane.
    #[arg(long)]
    disable_agent: bool,
    /// No cluster DNS here.
    #[arg(long)]
    disable_dns: bool,
    /// No scheduler here.
    #[arg(long)]
    disable_scheduler: bool,
    /// No controllers here.
    #[arg(long)]
    disable_controller_manager: bool,
}

/// Runs until the process is told to end. Pods run on.
pub(crate) fn run(flags: Flags, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if flags.node.print_unit {
        let program = std::env::current_exe()?;
        print!(
            "{}",
            unit::unit("server", &program.to_string_lossy(), &arguments)
        );
        return Ok(ExitCode::SUCCESS);
    }
    component::init_logs(flags.node.v, false);
    component::event_loop(|shutdown| serve(flags, shutdown))
}

struct Host {
    flags: Flags,
    facts: ClusterFacts,
    pki: Pki,
    token: Token,
    name: String,
    address: Ipv4Addr,
    server: Arc<Server>,
    tasks: Tasks,
    pulses: Pulses,
    shutdown: CancellationToken,
}

async fn serve(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (name, address) = (flags.node.name(), flags.node.address()?);
    let data = flags.node.data_dir.join("server");
    make_private_dir(&data)?;
    let facts = ClusterFacts {
        cluster_cidr: flags.cluster_cidr,
        service_cidr: flags.service_cidr,
        cluster_domain: flags.cluster_domain.clone(),
        network_backend: flags.network_backend,
    };
    facts.check_address(address)?;
    facts.settle(&data.join("cluster.json"))?;
    let token = token(flags.token.as_deref(), &data.join("token"))?;
    let audit = flags.audit.options()?;
    let store = datastore::open(&flags.datastore, &data.join("store")).await?;
    let pki_dir = data.join("pki");
    let make = |dir: &Path| pki::settle(dir, (&name, address), facts.service(1), &flags.tls_san);
    if flags.datastore.datastore_endpoint.is_some() {
        let settled = shared::settle(&*store.store(), &token, &facts, &pki_dir, make).await;
        settled.context("this server cannot join the cluster of its datastore")?;
    }
    make(&pki_dir)?;
    let pki = Pki::read(&pki_dir)?;
    let at = (address, flags.https_listen_port);
    let pulses = Pulses::default();
    let (controllers, scheduler) = (!flags.disable_controller_manager, !flags.disable_scheduler);
    let parts = pulses.components(controllers, scheduler);
    let services = facts.service_cidr.into();
    let shared = flags.datastore.datastore_endpoint.is_some();
    let encryption = flags.encryption.settled(&data, shared)?;
    let kept = encryption.over(store.store(), &shutdown).await?;
    let server = api::serve_at(kept, &pki, services, at, parts, audit).await?;
    let mut host = Host {
        flags,
        facts,
        pki,
        token,
        name,
        address,
        server: server.clone(),
        tasks: Tasks::new(),
        pulses,
        shutdown: shutdown.clone(),
    };
    let result = match host.start(&data).await {
        Ok(()) => {
            tracing::info!(node = host.name, %address, "the server is up");
            notify_ready();
            tokio::select! {
                done = host.tasks.join_next() => ended(done),
                () = shutdown.cancelled() => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    shutdown.cancel();
    server.leave().await;
    server.shut_down();
    store.close();
    result
}

/// The token given, that of the last time, or a new one. The file has it before anything depends on it, and later with
/// the digest of the authority.
fn token(given: Option<&str>, file: &Path) -> anyhow::Result<Token> {
    if let Some(given) = given {
        return Token::parse(given);
    }
    if let Ok(kept) = std::fs::read_to_string(file) {
        return Token::parse(&kept).with_context(|| format!("{} is damaged", file.display()));
    }
    let token = Token::random();
    write_private(file, format!("{}\n", token.bearer()).as_bytes())?;
    Ok(token)
}

impl Host {
    fn client(&self, component: &str, name: &str) -> Client {
        client(&self.server, component, identity(name))
    }

    fn admin(&self) -> Client {
        client(
            &self.server,
            "oxikube",
            User::new("oxikube", &[user::SYSTEM_MASTERS]),
        )
    }

    async fn start(&mut self, data: &Path) -> anyhow::Result<()> {
        self.api().await?;
        let file = data.join("token");
        let text = self.token.pinned(&self.pki.text("ca.crt")?)?;
        write_private(&file, format!("{text}\n").as_bytes())?;
        let url = format!("https://{}:{}", self.address, self.flags.https_listen_port);
        let authority = self.pki.text("ca.crt")?;
        for object in objects::objects(&self.token, &self.facts, &url, &authority) {
            let applied = dns::apply(&self.admin(), object).await;
            applied.context("what joining nodes need cannot be set up")?;
        }
        self.kubeconfig()?;
        if !self.flags.disable_controller_manager {
            self.controllers()?;
        }
        if !self.flags.disable_scheduler {
            let scheduler = self.client("kube-scheduler", user::KUBE_SCHEDULER);
            let pulse = self.pulses.scheduler.clone();
            let work = move || scheduler::run(scheduler.clone());
            self.lead("kube-scheduler", user::KUBE_SCHEDULER, &pulse, work);
        }
        if !self.flags.disable_agent {
            self.node().await?;
        }
        if !self.flags.disable_dns {
            self.dns().await?;
        }
        let file = file.display();
        tracing::info!(
            "nodes join by `oxikube agent --server {url} --token-file FILE`, a copy of {file}"
        );
        Ok(())
    }

    /// Does a work of which there must be one in the cluster: at once when this server is the only one, and otherwise as
    /// long as it is the leader. Who waits for its turn is as well as who works. Whoever has lost the lead, because the
    /// datastore was gone for a while, drops the work with all that it began, and stands for election again: the API and
    /// the node of this server have nothing to do with it.
    fn lead<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        user: &str,
        pulse: &Pulse,
        work: impl Fn() -> F + Send + 'static,
    ) {
        if self.flags.datastore.datastore_endpoint.is_none() {
            let work = work();
            self.tasks.spawn(pulse.during(async move {
                work.await;
                Err(anyhow!("{name} ended"))
            }));
            return;
        }
        let client = self.client(name, user);
        let (own, shutdown) = (self.name.clone(), self.shutdown.clone());
        self.tasks.spawn(pulse.during(async move {
            loop {
                let identity = format!("{own}_{}", uuid::Uuid::new_v4());
                let election = Election::new(name, identity, name);
                match lead(client.clone(), &election, work(), shutdown.cancelled()).await {
                    Ended::Shutdown => return Ok(()),
                    Ended::Lost => tracing::warn!("{name}: leaderelection lost"),
                    Ended::Done(()) => return Err(anyhow!("{name} ended")),
                }
            }
        }));
    }

    async fn api(&mut self) -> anyhow::Result<()> {
        let address = SocketAddr::from((self.flags.bind_address, self.flags.https_listen_port));
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        let (server, tls) = (self.server.clone(), self.pki.serving()?);
        self.tasks.spawn(async move {
            let served = server.serve(vec![listener], tls).await;
            served.context("the API server ended")
        });
        Ok(())
    }

    fn kubeconfig(&self) -> anyhow::Result<()> {
        let path = &self.flags.write_kubeconfig;
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            make_private_dir(dir)?;
        }
        let host = match self.flags.bind_address {
            Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST,
            own => own,
        };
        let url = format!("https://{host}:{}", self.flags.https_listen_port);
        let text = kubeconfig::of_admin(
            &url,
            &self.pki.text("ca.crt")?,
            &self.pki.text("admin.crt")?,
            &self.pki.text("admin.key")?,
        )?;
        write_private(path, text.as_bytes())
    }

    fn controllers(&mut self) -> anyhow::Result<()> {
        let (server, authority) = (self.server.clone(), self.pki.text("ca.crt")?);
        let signing = Authority::from_pem(&authority, &self.pki.text("ca.key")?)?;
        let config = controller_manager::Config {
            clients: Arc::new(move |name: &str| {
                client(&server, "kube-controller-manager", identity(name))
            }),
            root_certificates: authority.into(),
            token_signer: Some(token_signer::from_pem(&self.pki.text("sa.key")?)?),
            pod_networks: Ranges {
                cluster: vec![(self.facts.cluster_cidr.into(), NODE_PREFIX)],
                excluded: vec![self.facts.service_cidr.into()],
            },
            signing: Signing {
                approves_serving: true,
                ..Signing::all(signing)
            },
            selection: Selection::default(),
            node_lifecycle: NodeLifecycle::default(),
            load_balancers: Some(Addresses::Nodes {
                reserved: vec![self.flags.https_listen_port, KUBELET_PORT, dns::PORT],
            }),
        };
        let shutdown = self.shutdown.clone();
        let work =
            move || controller_manager::run(config.clone(), shutdown.clone().cancelled_owned());
        let name = "kube-controller-manager";
        let pulse = self.pulses.controllers.clone();
        self.lead(name, user::KUBE_CONTROLLER_MANAGER, &pulse, work);
        Ok(())
    }

    async fn node(&mut self) -> anyhow::Result<()> {
        let places = self.flags.node.places()?;
        make_private_dir(&places.run)?;
        let mut worker = Worker {
            name: self.name.clone(),
            address: self.address,
            networks: self.facts.networks(),
            places,
            serving: Serving {
                certificate: serving::Certificate::from_pem(
                    &self.pki.text("kubelet-server.crt")?,
                    &self.pki.text("kubelet-server.key")?,
                )?,
                client_ca: self.pki.text("ca.crt")?,
            },
            registry_network: None,
            labels: component::pairs(&self.flags.node.node_label)?,
            taints: self.flags.node.taints()?,
        };
        let clients = Clients {
            kubelet: self.client(
                "kubelet",
                &format!("{}{}", user::NODE_USER_PREFIX, worker.name),
            ),
            proxy: self.client("kube-proxy", user::KUBE_PROXY),
        };
        let (shutdown, tasks) = (self.shutdown.clone(), &mut self.tasks);
        worker.start_kubelet(&clients, &shutdown, tasks).await?;
        worker.start_network(&clients, &mut self.tasks);
        worker.start_proxy(&clients, &mut self.tasks);
        Ok(())
    }

    async fn dns(&mut self) -> anyhow::Result<()> {
        let place = dns::Place {
            node: self.name.clone(),
            address: self.address,
            service: self.facts.service(10),
        };
        let settled = dns::settle(self.admin(), &place).await;
        settled.context("the cluster DNS cannot be set up")?;
        let made = storage_class::settle(self.admin()).await;
        made.context("the storage class cannot be made")?;
        let address = SocketAddr::new(self.address.into(), dns::PORT);
        let (ready, _) = tokio::sync::watch::channel(false);
        let (client, domain) = (
            self.client("coredns", dns::USER),
            self.facts.cluster_domain.clone(),
        );
        let serving = dns::serve(client, &domain, address, ready).await?;
        self.tasks.spawn(async move {
            serving.await;
            Err(anyhow!("the cluster DNS ended"))
        });
        Ok(())
    }
}
