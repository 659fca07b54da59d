//! `oxikube agent`: a node on the machine itself, of a cluster whose control plane is elsewhere.
//!
//! The first time it comes with a token: it learns the cluster's authority (which the token pins), has its client
//! certificate signed, and from then on is the node; the token is not needed again.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use client::connect::{self, Identity, Rotating};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Config};
use tokio_util::sync::CancellationToken;

use super::token::{Token, digests};
use super::{ClusterFacts, NodeFlags, notify_ready, objects, unit};
use crate::certify::{self, Pair, Wish};
use crate::cluster::{make_private_dir, write_private};
use crate::component;
use crate::node::ended;
use crate::worker::{Clients, Serving, Tasks, Worker};

/// The pause between tries to reach a server that does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// What an agent is told.
#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    node: NodeFlags,
    /// URL of the server.
    #[arg(long, env = "OXIKUBE_URL")]
    server: String,
    /// The token by which the node joins.
    #[arg(long, env = "OXIKUBE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with it.
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

/// Runs until the process is told to end. Pods run on.
pub(crate) fn run(options: Options, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if options.node.print_unit {
        let program = std::env::current_exe()?;
        print!(
            "{}",
            unit::unit("agent", &program.to_string_lossy(), &arguments)
        );
        return Ok(ExitCode::SUCCESS);
    }
    component::init_logs(options.node.v, false);
    component::event_loop(|shutdown| serve(options, shutdown))
}

/// Files of an agent.
struct Home {
    authority: PathBuf,
    client: PathBuf,
    serving: PathBuf,
}

impl Home {
    fn new(data: &Path) -> anyhow::Result<Self> {
        let dir = data.join("agent");
        make_private_dir(&dir)?;
        Ok(Self {
            authority: dir.join("ca.crt"),
            client: dir.join("kubelet-client-current.pem"),
            serving: dir.join("kubelet-server-current.pem"),
        })
    }
}

async fn serve(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        ended = work(&options, &shutdown) => ended,
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn work(options: &Options, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let (name, address) = (options.node.name(), options.node.address()?);
    let home = Home::new(&options.node.data_dir)?;
    let (authority, pair) = credentials(options, &home, &name).await?;
    let mut tasks = Tasks::new();
    let client = renewed(options, &home, (&name, &authority), pair, &mut tasks)?;
    let facts = facts(&client).await?;
    facts.check_address(address)?;
    let places = options.node.places()?;
    make_private_dir(&places.run)?;
    let wish = Wish::kubelet_serving(&name, vec![IpAddr::from(address)]);
    let certificate = certify::serving(client.clone(), wish, home.serving, &mut tasks);
    let mut worker = Worker {
        name,
        address,
        networks: facts.networks(),
        places,
        serving: Serving {
            certificate,
            client_ca: authority,
        },
        registry_network: None,
        labels: component::pairs(&options.node.node_label)?,
        taints: options.node.taints()?,
    };
    let clients = Clients {
        kubelet: client.clone(),
        proxy: client,
    };
    worker.start_kubelet(&clients, shutdown, &mut tasks).await?;
    worker.start_network(&clients, &mut tasks);
    worker.start_proxy(&clients, &mut tasks);
    tracing::info!(node = worker.name, "the agent is up");
    notify_ready();
    ended(tasks.join_next().await)
}

/// The authority of the cluster and the node's client certificate: those of before, or new ones by the token.
async fn credentials(options: &Options, home: &Home, name: &str) -> anyhow::Result<(String, Pair)> {
    let kept = std::fs::read_to_string(&home.authority).ok();
    let pair = Pair::read(&home.client).filter(|pair| pair.is_good(Timestamp::now()));
    if let (Some(authority), Some(pair)) = (&kept, pair) {
        return Ok((authority.clone(), pair));
    }
    let text = match (&options.token, &options.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?,
        (None, None) => {
            bail!("--token is needed: this node has not joined yet, or was away for too long")
        }
    };
    let token = Token::parse(&text)?;
    let authority = match kept {
        Some(authority) => authority,
        None => discover(&options.server, &token).await?,
    };
    let bearer = Identity::Token(token.bearer());
    let client = connect::remote("kubelet", &options.server, &authority, bearer)?;
    let pair = certify::obtain(&client, &Wish::kubelet_client(name)).await;
    write_private(&home.authority, authority.as_bytes())?;
    pair.write(&home.client)?;
    tracing::info!(node = name, server = options.server, "the node has joined");
    Ok((authority, pair))
}

/// Learns the authority of the cluster from a server that nobody vouches for yet. It is believed only when the token pins
/// it, or has signed it. Nothing is sent to that server but the question.
async fn discover(server: &str, token: &Token) -> anyhow::Result<String> {
    let url = server.parse();
    let mut config = Config::new(url.with_context(|| format!("{server} is no URL"))?);
    config.accept_invalid_certs = true;
    let api: Api<ConfigMap> = Api::namespaced(Client::try_from(config)?, "kube-public");
    loop {
        let data = match api.get("cluster-info").await {
            Ok(map) => map.data.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(server, %error, "the server does not tell who signs for it, trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let content = data.get("kubeconfig").map_or("", String::as_str);
        let authority = authority_of(content)?;
        if let Some(pin) = &token.pin {
            if digests(&authority)? != [pin.clone()] {
                bail!("{server} is not the server of this token: its authority is another one");
            }
            return Ok(authority);
        }
        let wanted = controller_manager::bootstrap_signature(content, &token.id, &token.secret);
        match data.get(&format!("jws-kubeconfig-{}", token.id)) {
            Some(signature) if *signature == wanted => return Ok(authority),
            Some(_) => bail!("{server} does not know this token: its signature is another one"),
            // The controller that signs may not have come to it.
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The authority in a kubeconfig.
fn authority_of(kubeconfig: &str) -> anyhow::Result<String> {
    use base64::Engine;
    let config: serde_json::Value = serde_saphyr::from_str(kubeconfig)?;
    let data = &config["clusters"][0]["cluster"]["certificate-authority-data"];
    let data = data
        .as_str()
        .context("the server does not tell who signs for it")?;
    let pem = base64::engine::general_purpose::STANDARD.decode(data)?;
    Ok(String::from_utf8(pem)?)
}

/// A client as the node, whose certificate is renewed.
fn renewed(
    options: &Options,
    home: &Home,
    (name, authority): (&str, &str),
    pair: Pair,
    tasks: &mut Tasks,
) -> anyhow::Result<Client> {
    let (server, authority) = (options.server.clone(), authority.to_owned());
    let connect = move |pair: &Pair| {
        let identity = Identity::Certificate {
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
        };
        connect::remote("kubelet", &server, &authority, identity)
    };
    let rotating = Rotating::new(connect(&pair)?);
    let client = rotating.client();
    let take = move |pair: &Pair| {
        rotating.replace(connect(pair)?);
        Ok(())
    };
    let wish = Wish::kubelet_client(name);
    let renewing = certify::renew(client.clone(), wish, home.client.clone(), pair, take);
    tasks.spawn(async move {
        renewing.await;
        Ok(())
    });
    Ok(client)
}

/// What the cluster tells its nodes.
async fn facts(client: &Client) -> anyhow::Result<ClusterFacts> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    loop {
        match api.get(objects::FACTS).await {
            Ok(map) => {
                let data = map.data.unwrap_or_default();
                let text = data.get(objects::FACTS_KEY).map_or("", String::as_str);
                let what = "the cluster tells its networks in a way that cannot be read";
                return serde_json::from_str(text).context(what);
            }
            Err(kube::Error::Api(status)) if status.code == 404 => bail!(
                "this cluster was not made by oxikube server: use oxikube kubelet and kube-proxy"
            ),
            Err(error) => {
                tracing::warn!(%error, "the server does not answer, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
