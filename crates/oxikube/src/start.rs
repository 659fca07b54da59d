//! `oxikube start`: a cluster from nothing, or from where it was switched off.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use overlay::Backend;

use crate::cluster::{Cluster, Clusters, Config, Snapshots};
use crate::member::Member;
use crate::node::ready::node_ready;
use crate::progress::{self, Message};
use crate::root::STATE;
use crate::{checks, commands, kubeconfig, network, pki, power};

/// Where ports for APIs begin.
const FIRST_API_PORT: u16 = 6443;
/// Where a node keeps its images.
const IMAGES: &str = "containers/images";
/// How long a node that runs already may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// Port of the API on this machine.
    pub(crate) api_port: Option<u16>,
    /// How many nodes.
    pub(crate) nodes: Option<u8>,
    /// How packets travel between nodes.
    pub(crate) network_backend: Option<Backend>,
    /// How long a node may be silent.
    pub(crate) node_grace: Option<Duration>,
    /// How often backups are taken, where zero is never; and how many are kept.
    pub(crate) snapshots: Option<(Duration, usize)>,
    /// Secrets are to be encrypted in the store.
    pub(crate) secrets_encryption: bool,
}

impl Wanted {
    /// The schedule of backups, where one is asked for: what it is to be from now on.
    fn schedule(&self) -> Option<Option<Snapshots>> {
        let (every, keep) = self.snapshots?;
        let schedule = Snapshots {
            every_seconds: every.as_secs(),
            keep,
        };
        Some(Some(schedule).filter(|_| !every.is_zero()))
    }
}

/// Starts the cluster and returns when all of its nodes are ready.
pub(crate) fn start(cluster: &Cluster, wanted: &Wanted) -> anyhow::Result<()> {
    let began = Instant::now();
    checks::root()?;
    let lock = cluster.lock()?;
    let is_new = !cluster.exists();
    if !is_new {
        let config = cluster.config()?;
        fits(cluster, &config, wanted)?;
        resettle(cluster, config.clone(), wanted)?;
        let all = cluster.members(&config);
        if all.iter().all(|node| node.init().is_some()) {
            say(&format!("cluster {} is running already", cluster.name));
            drop(lock);
            wait_running(cluster, &config)?;
            others(cluster, &config, wanted.nodes)?;
            return finish(cluster, &config);
        }
    }
    checks::kernel()?;
    if is_new && wanted.network_backend.unwrap_or_default() == Backend::Vxlan {
        checks::vxlan()?;
    }
    let config = match is_new {
        true => {
            let (config, listener) = create(cluster, wanted)?;
            network::create(&config)?;
            first(cluster, &config, listener, lock)?;
            config
        }
        false => wake(cluster, lock)?,
    };
    let joined = others(cluster, &config, wanted.nodes);
    if let (true, Err(error)) = (is_new, joined.as_ref().map_err(ToString::to_string)) {
        let _lock = cluster.lock()?;
        say(&format!("the cluster is removed again: {error}"));
        power::cluster_off(cluster, &config)?;
        remove_files(cluster)?;
    }
    joined?;
    finish(cluster, &config)?;
    warn_of_firewall(&config.bridge());
    say(&format!(
        "ready after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Says when the machine's own firewall is in the way, and what would let the cluster through: a packet that one table
/// drops cannot be saved by ours, and to change another's rules is not ours to do.
fn warn_of_firewall(bridge: &str) {
    // A machine that does not say is taken as it is.
    for chain in nft::chains_that_drop_forwarded().unwrap_or_default() {
        say(&format!(
            "note: the firewall of this machine ({chain}) drops what passes through it, so pods may not reach the \
             Internet; let the cluster through with `iptables -I FORWARD -i {bridge} -j ACCEPT` and \
             `iptables -I FORWARD -o {bridge} -j ACCEPT`"
        ));
    }
}

/// Adds a node to a running cluster.
pub(crate) fn add(cluster: &Cluster) -> anyhow::Result<()> {
    checks::root()?;
    let config = running(cluster)?;
    let count = cluster.members(&config).len() + 1;
    others(cluster, &config, Some(u8::try_from(count)?))
}

/// Switches one node on.
pub(crate) fn node(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    checks::root()?;
    let config = commands::must_exist(cluster).and_then(|()| cluster.config())?;
    let node = cluster.member_named(&config, name)?;
    if node.init().is_some() {
        say(&format!("node {} is running already", node.config.name()));
        return Ok(());
    }
    if node.config.is_first() {
        return wake(cluster, cluster.lock()?).map(drop);
    }
    running(cluster)?;
    let lock = cluster.lock()?;
    join(&[node], lock)
}

/// What a cluster is whose control plane runs.
fn running(cluster: &Cluster) -> anyhow::Result<Config> {
    commands::must_run(cluster)?;
    cluster.config()
}

/// Fails when the cluster was made otherwise than is asked.
fn fits(cluster: &Cluster, config: &Config, wanted: &Wanted) -> anyhow::Result<()> {
    let name = &cluster.name;
    if let Some(port) = wanted.api_port.filter(|port| *port != config.api_port) {
        let made = config.api_port;
        bail!("cluster {name} was made with port {made}, which stays: not {port}");
    }
    let backend = wanted.network_backend;
    if let Some(backend) = backend.filter(|backend| *backend != config.network_backend) {
        let made = config.network_backend;
        bail!(
            "cluster {name} was made with the network back end {made}, which stays: not {backend}"
        );
    }
    let grace = wanted.node_grace.map(|grace| grace.as_secs());
    if let Some(grace) = grace.filter(|grace| *grace != config.node_grace_seconds) {
        let made = config.node_grace_seconds;
        bail!(
            "cluster {name} was made with a grace of {made}s for nodes, which stays: not {grace}s"
        );
    }
    let there = cluster.members(config).len();
    match wanted.nodes {
        Some(nodes) if usize::from(nodes) < there => bail!(
            "cluster {name} has {there} nodes: remove some with `oxikube node rm --name {name} NODE`"
        ),
        _ => Ok(()),
    }
}

/// Takes down that backups are to be taken otherwise than before, or that secrets are to be encrypted.
fn resettle(cluster: &Cluster, mut config: Config, wanted: &Wanted) -> anyhow::Result<()> {
    let schedule = wanted.schedule().filter(|new| *new != config.snapshots);
    let encrypts = wanted.secrets_encryption && !config.secrets_encryption;
    let what = match (schedule.is_some(), encrypts) {
        (false, false) => return Ok(()),
        (true, _) => "to change when its backups are taken",
        (false, true) => "to have its secrets encrypted",
    };
    if cluster.first(&config).init().is_some() {
        let name = &cluster.name;
        bail!("cluster {name} runs: switch it off with `oxikube stop --name {name}` {what}");
    }
    config.snapshots = schedule.unwrap_or(config.snapshots);
    config.secrets_encryption |= encrypts;
    cluster.create(&config)
}

/// Switches the first node on and waits until it is ready. A cluster that has never been ready is removed again.
fn first(
    cluster: &Cluster,
    config: &Config,
    listener: OwnedFd,
    lock: fs::File,
) -> anyhow::Result<()> {
    let node = cluster.first(config);
    let is_new = !cluster.path("root").exists();
    let ready = power::on(&node, Some(listener)).and_then(|(_, progress)| {
        // Others may start and stop clusters while this one gets ready.
        drop(lock);
        wait(&node, progress, say)
    });
    let Err(error) = ready else { return Ok(()) };
    let _lock = cluster.lock()?;
    power::off(&node)?;
    if !cluster.runs(config) {
        power::cluster_off(cluster, config)?;
    }
    if is_new {
        let log = last_lines(&node);
        remove_files(cluster)?;
        eprint!("{log}");
    }
    Err(error)
}

fn remove_files(cluster: &Cluster) -> anyhow::Result<()> {
    fs::remove_dir_all(&cluster.dir)
        .with_context(|| format!("cannot remove {}", cluster.dir.display()))
}

/// Switches on what is off beside the first node, and adds nodes until there are as many as wanted.
fn others(cluster: &Cluster, config: &Config, nodes: Option<u8>) -> anyhow::Result<()> {
    let lock = cluster.lock()?;
    let mut off = cluster.members(config);
    off.retain(|node| !node.config.is_first() && node.init().is_none());
    let mut made = Vec::new();
    while cluster.members(config).len() < usize::from(nodes.unwrap_or(0)) {
        made.push(make(cluster, config)?);
    }
    off.extend(made.iter().cloned());
    let joined = join(&off, lock);
    if joined.is_err() {
        let _lock = cluster.lock()?;
        for node in made {
            power::off(&node)?;
            fs::remove_dir_all(&node.dir)
                .with_context(|| format!("cannot remove {}", node.dir.display()))?;
        }
    }
    joined
}

/// Makes the files of a new node.
fn make(cluster: &Cluster, config: &Config) -> anyhow::Result<Member> {
    let node = cluster.next_member(config)?;
    let made = node.create().and_then(|()| {
        pki::create_for_node(&cluster.path("pki"), &node.path("pki"), &node.config)?;
        // What was loaded by hand is nowhere else to be had.
        let images = cluster.first(config).path(IMAGES);
        Ok(images::share(&images, &node.path(IMAGES))?)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&node.dir);
    }
    made.map(|()| node)
}

/// Switches nodes on, all at once, and waits until they are ready.
fn join(nodes: &[Member], lock: fs::File) -> anyhow::Result<()> {
    let mut coming = Vec::new();
    for node in nodes {
        // What a power cut of the machine itself has left.
        power::off(node)?;
        coming.push((node, power::on(node, None)?.1));
    }
    drop(lock);
    let mut result = Ok(());
    for (node, progress) in coming {
        let name = node.config.name();
        match wait(node, progress, |_| {}) {
            Ok(()) => say(&format!("node {name} is ready")),
            Err(error) if result.is_ok() => {
                eprint!("{}", last_lines(node));
                result = Err(error.context(format!("node {name} does not get ready")));
            }
            Err(_) => {}
        }
    }
    result
}

/// Tells people how it goes. Whether anybody listens makes no difference: a cluster is not left half-made.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// Makes the data of a new cluster; what cannot be finished is removed again.
fn create(cluster: &Cluster, wanted: &Wanted) -> anyhow::Result<(Config, OwnedFd)> {
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
    let listener = checks::listen(wanted.api_port, free(FIRST_API_PORT))?;
    let mut config = Config::new(&cluster.name, subnet, listener.local_addr()?.port());
    config.network_backend = wanted.network_backend.unwrap_or_default();
    if let Some(grace) = wanted.node_grace {
        config.node_grace_seconds = grace.as_secs();
    }
    config.snapshots = wanted.schedule().flatten();
    config.secrets_encryption = wanted.secrets_encryption;
    say(&format!(
        "creating cluster {} in {}",
        cluster.name,
        cluster.dir.display()
    ));
    power::cluster_off(cluster, &config)?;
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

/// Switches the first node of a stopped cluster on, if it is off.
fn wake(cluster: &Cluster, lock: fs::File) -> anyhow::Result<Config> {
    let config = cluster.config()?;
    if !cluster.path("pki/ca.crt").exists() || !cluster.path("pki/sa.key").exists() {
        bail!(
            "the certificates of cluster {name} in {} are missing; restore them, or remove the \
             cluster with `oxikube delete --name {name}`",
            cluster.path("pki").display(),
            name = cluster.name
        );
    }
    if cluster.first(&config).init().is_some() {
        return Ok(config);
    }
    let alone = !cluster.runs(&config);
    if alone {
        // What a power cut of the machine itself has left.
        power::cluster_off(cluster, &config)?;
        let taken = network::taken_subnets()?;
        if taken.contains(&config.subnet) {
            bail!(
                "the network {}/24 of the cluster is used by something else now",
                config.network()
            );
        }
    } else {
        power::off(&cluster.first(&config))?;
    }
    let listener = checks::listen(Some(config.api_port), 0)?;
    say(&format!("switching cluster {} on", cluster.name));
    if alone {
        network::create(&config)?;
    }
    first(cluster, &config, listener.into(), lock)?;
    Ok(config)
}

/// Hears what the inside tells until it is ready.
fn wait(node: &Member, progress: OwnedFd, tell: impl Fn(&str)) -> anyhow::Result<()> {
    for message in progress::messages(progress) {
        match message {
            Message::Step(what) => tell(&what),
            Message::Ready => return Ok(()),
            // The inside knows the node's directory under another name.
            Message::Failed(why) => bail!(why.replace(STATE, &node.dir.to_string_lossy())),
        }
    }
    bail!(
        "the node ended before it was ready; its log is {}",
        node.path("log/node.log").display()
    )
}

/// Waits for a node that somebody else has switched on.
fn wait_running(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = cluster.first(config).config.name();
    let ready = async {
        let file = kubeconfig::own_file(cluster);
        let client = client::connect::from_kubeconfig(&file, None).await?;
        node_ready(client::Api::all(client), &name).await
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
fn last_lines(node: &Member) -> String {
    let Ok(log) = fs::File::open(node.path("log/node.log")) else {
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
