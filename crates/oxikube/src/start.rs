//! `oxikube start`: a cluster from nothing, or from where it was switched off.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cluster::{Cluster, Clusters, Config};
use crate::node::ready::node_ready;
use crate::progress::{self, Message};
use crate::root::STATE;
use crate::{checks, kubeconfig, network, pki, power};

/// Where ports for APIs begin.
const FIRST_API_PORT: u16 = 6443;
/// How long a node that runs already may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the cluster and returns when it is ready.
pub(crate) fn start(cluster: &Cluster, api_port: Option<u16>) -> anyhow::Result<()> {
    let began = Instant::now();
    checks::root()?;
    let lock = cluster.lock()?;
    let is_new = !cluster.exists();
    if cluster.init().is_some() {
        let config = cluster.config()?;
        drop(lock);
        say(&format!("cluster {} is running already", cluster.name));
        wait_running(cluster, &config)?;
        return finish(cluster, &config);
    }
    checks::kernel()?;
    let (config, listener) = match is_new {
        true => create(cluster, api_port)?,
        false => wake(cluster, api_port)?,
    };
    let ready = power::on(cluster, &config, listener).and_then(|(_, progress)| {
        // Others may start and stop clusters while this one gets ready.
        drop(lock);
        wait(cluster, progress)
    });
    if let Err(error) = ready {
        let _lock = cluster.lock()?;
        power::off(cluster, &config)?;
        if is_new {
            let log = last_lines(cluster);
            fs::remove_dir_all(&cluster.dir)
                .with_context(|| format!("cannot remove {}", cluster.dir.display()))?;
            eprint!("{log}");
        }
        return Err(error);
    }
    finish(cluster, &config)?;
    say(&format!(
        "ready after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Tells people how it goes. Whether anybody listens makes no difference: a cluster is not left half-made.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// Makes the data of a new cluster; what cannot be finished is removed again.
fn create(cluster: &Cluster, api_port: Option<u16>) -> anyhow::Result<(Config, OwnedFd)> {
    let others = Clusters::new(cluster.dir.parent().map(Into::into).unwrap_or_default()).all()?;
    let configs: Vec<Config> = others
        .iter()
        .filter_map(|other| other.config().ok())
        .collect();
    let used: Vec<u8> = configs.iter().map(|config| config.subnet).collect();
    let subnet = network::free_subnet(&used)?;
    let free = |from: u16| {
        let mut port = from;
        while configs.iter().any(|config| config.api_port == port) {
            port += 1;
        }
        port
    };
    let listener = checks::listen(api_port, free(FIRST_API_PORT))?;
    let config = Config::new(&cluster.name, subnet, listener.local_addr()?.port());
    say(&format!(
        "creating cluster {} in {}",
        cluster.name,
        cluster.dir.display()
    ));
    power::off(cluster, &config)?;
    let made = cluster
        .create(&config)
        .and_then(|()| pki::create(&cluster.path("pki"), &config))
        .and_then(|()| kubeconfig::write_own(cluster, &config));
    if let Err(error) = made {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&cluster.dir);
        return Err(error);
    }
    say("made certificates and keys");
    Ok((config, listener.into()))
}

/// Opens what there is of a stopped cluster.
fn wake(cluster: &Cluster, api_port: Option<u16>) -> anyhow::Result<(Config, OwnedFd)> {
    let config = cluster.config()?;
    if api_port.is_some_and(|port| port != config.api_port) {
        let (name, port) = (&cluster.name, config.api_port);
        bail!("cluster {name} was made with port {port}, which stays: leave --api-port out");
    }
    if !cluster.path("pki/ca.crt").exists() || !cluster.path("pki/sa.key").exists() {
        bail!(
            "the certificates of cluster {name} in {} are missing; restore them, or remove the \
             cluster with `oxikube delete --name {name}`",
            cluster.path("pki").display(),
            name = cluster.name
        );
    }
    // What a power cut of the machine itself has left.
    power::off(cluster, &config)?;
    let taken = network::taken_subnets()?;
    if taken.contains(&config.subnet) {
        bail!(
            "the network {}/24 of the cluster is used by something else now",
            config.network()
        );
    }
    let listener = checks::listen(Some(config.api_port), 0)?;
    say(&format!("switching cluster {} on", cluster.name));
    Ok((config, listener.into()))
}

/// Hears what the inside tells until it is ready.
fn wait(cluster: &Cluster, progress: OwnedFd) -> anyhow::Result<()> {
    for message in progress::messages(progress) {
        match message {
            Message::Step(what) => say(&what),
            Message::Ready => return Ok(()),
            // The inside knows the cluster's directory under another name.
            Message::Failed(why) => bail!(why.replace(STATE, &cluster.dir.to_string_lossy())),
        }
    }
    bail!(
        "the node ended before it was ready; its log is {}",
        cluster.path("log/node.log").display()
    )
}

/// Waits for a node that somebody else has switched on.
fn wait_running(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ready = async {
        let file = kubeconfig::own_file(cluster);
        let client = client::connect::from_kubeconfig(&file, None).await?;
        node_ready(client::Api::all(client), &config.node_name()).await
    };
    match runtime.block_on(async { tokio::time::timeout(PATIENCE, ready).await }) {
        Ok(result) => result,
        Err(_) => bail!(
            "the node is not ready after {} seconds; its log is {}",
            PATIENCE.as_secs(),
            cluster.path("log/node.log").display()
        ),
    }
}

/// The end of the node's log, for a cluster whose log is about to be removed.
fn last_lines(cluster: &Cluster) -> String {
    let Ok(log) = fs::File::open(cluster.path("log/node.log")) else {
        return String::new();
    };
    let lines: Vec<String> = BufReader::new(log).lines().map_while(Result::ok).collect();
    lines[lines.len().saturating_sub(20)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}

fn finish(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    kubeconfig::write_own(cluster, config)?;
    let file = kubeconfig::merge(cluster, config)?;
    say(&format!(
        "kubectl uses the context {} in {}; the API is at {}",
        config.context(),
        file.display(),
        config.api_url()
    ));
    Ok(())
}
