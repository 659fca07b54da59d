//! The smaller commands.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Clusters, Config};
use crate::member::NodeConfig;
use crate::start::say;
use crate::worker::control;
use crate::{checks, kubeconfig, power};

/// Fails unless there is such a cluster.
pub(crate) fn must_exist(cluster: &Cluster) -> anyhow::Result<()> {
    match cluster.exists() {
        true => Ok(()),
        false => bail!(
            "there is no cluster {name}: make it with `oxikube start --name {name}`",
            name = cluster.name
        ),
    }
}

/// Switches a cluster off.
pub(crate) fn stop(cluster: &Cluster) -> anyhow::Result<()> {
    checks::root()?;
    must_exist(cluster)?;
    let _lock = cluster.lock()?;
    let config = cluster.config()?;
    let ran = cluster.runs(&config);
    power::cluster_off(cluster, &config)?;
    match ran {
        true => say(&format!("cluster {} is off", cluster.name)),
        false => say(&format!("cluster {} was off already", cluster.name)),
    }
    Ok(())
}

/// Removes a cluster; one that is not there is fine.
pub(crate) fn delete(cluster: &Cluster) -> anyhow::Result<()> {
    checks::root()?;
    let _lock = cluster.lock()?;
    if !cluster.dir.exists() {
        say(&format!("there is no cluster {}", cluster.name));
        return Ok(());
    }
    // Everything on the machine is named after the cluster: a damaged record is no reason to leave it.
    let config = cluster
        .config()
        .unwrap_or_else(|_| Config::new(&cluster.name, 0, 0));
    power::cluster_off(cluster, &config)?;
    kubeconfig::remove(&config.context())?;
    fs::remove_dir_all(&cluster.dir)
        .with_context(|| format!("cannot remove {}", cluster.dir.display()))?;
    say(&format!("cluster {} is gone", cluster.name));
    Ok(())
}

/// How a cluster is.
struct Status {
    running: bool,
    nodes: Vec<Node>,
    /// Why the API was not reached.
    problem: Option<String>,
}

impl Status {
    fn of(cluster: &Cluster, config: &Config) -> Self {
        let running = cluster.first(config).init().is_some();
        let asked = running.then(|| ask_nodes(cluster)).transpose();
        match asked {
            Ok(nodes) => Self {
                running,
                nodes: nodes.unwrap_or_default(),
                problem: None,
            },
            Err(error) => Self {
                running,
                nodes: Vec::new(),
                problem: Some(format!("{error:#}")),
            },
        }
    }

    fn is_ready(&self) -> bool {
        self.running && !self.nodes.is_empty() && self.nodes.iter().all(is_ready)
    }

    fn word(&self) -> &'static str {
        match (self.running, self.is_ready()) {
            (false, _) => "Stopped",
            (true, false) => "NotReady",
            (true, true) => "Ready",
        }
    }

    fn json(&self, config: &Config) -> Value {
        let node = |node: &Node| {
            let name = node.metadata.name.clone().unwrap_or_default();
            json!({
                "name": name,
                "address": address(node),
                "ready": is_ready(node),
                "version": version(node),
            })
        };
        let mut out = json!({
            "name": config.name,
            "status": self.word(),
            "api": config.api_url(),
            "context": config.context(),
            "nodeAddress": NodeConfig::first(config).address(),
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
        });
        if let Some(problem) = &self.problem {
            out["problem"] = problem.as_str().into();
        }
        out
    }
}

/// Its condition says that pods can run there.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn address(node: &Node) -> String {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref());
    let internal = |a: &&NodeAddress| a.type_ == "InternalIP";
    let found = addresses.unwrap_or_default().iter().find(internal);
    found
        .map(|address| address.address.clone())
        .unwrap_or_default()
}

fn version(node: &Node) -> String {
    let info = node
        .status
        .as_ref()
        .and_then(|status| status.node_info.as_ref());
    info.map(|info| info.kubelet_version.clone())
        .unwrap_or_default()
}

/// The cluster's nodes, as the API knows them.
pub(crate) fn ask_nodes(cluster: &Cluster) -> anyhow::Result<Vec<Node>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let file = kubeconfig::own_file(cluster);
        let client = client::connect::from_kubeconfig(&file, None).await?;
        let nodes: client::Api<Node> = client::Api::all(client);
        Ok(nodes.list(&kube::api::ListParams::default()).await?.items)
    })
}

/// Shows how a cluster is.
pub(crate) fn status(cluster: &Cluster, as_json: bool) -> anyhow::Result<ExitCode> {
    checks::root()?;
    must_exist(cluster)?;
    let config = cluster.config()?;
    let status = Status::of(cluster, &config);
    if as_json {
        println!("{:#}", status.json(&config));
    } else {
        println!("cluster  {}", config.name);
        println!("status   {}", status.word());
        println!("api      {}", config.api_url());
        println!("context  {}", config.context());
        for node in &status.nodes {
            let ready = if is_ready(node) { "Ready" } else { "NotReady" };
            let name = node.metadata.name.as_deref().unwrap_or_default();
            println!("node     {name} {} {ready}", address(node));
        }
        if let Some(problem) = &status.problem {
            println!("problem  {problem}");
        }
    }
    Ok(if status.is_ready() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a node is on, for people.
pub(crate) fn running(runs: bool) -> &'static str {
    match runs {
        true => "Running",
        false => "Stopped",
    }
}

/// Lists all clusters.
pub(crate) fn list(clusters: &Clusters, as_json: bool) -> anyhow::Result<()> {
    checks::root()?;
    let mut rows = Vec::new();
    for cluster in clusters.all()? {
        match cluster.config() {
            Ok(config) => {
                let word = running(cluster.first(&config).init().is_some());
                rows.push((cluster.name, word, config.api_url(), config.context()));
            }
            Err(_) => rows.push((cluster.name, "Damaged", String::new(), String::new())),
        }
    }
    if as_json {
        let row = |(name, status, api, context): &(String, &str, String, String)| json!({"name": name, "status": status, "api": api, "context": context});
        println!(
            "{:#}",
            Value::from(rows.iter().map(row).collect::<Vec<_>>())
        );
        return Ok(());
    }
    println!("{:<20} {:<10} {:<26} CONTEXT", "NAME", "STATUS", "API");
    for (name, status, api, context) in rows {
        println!("{name:<20} {status:<10} {api:<26} {context}");
    }
    Ok(())
}

/// Fails unless the cluster's control plane runs.
pub(crate) fn must_run(cluster: &Cluster) -> anyhow::Result<()> {
    must_exist(cluster)?;
    match cluster.first(&cluster.config()?).init() {
        Some(_) => Ok(()),
        None => bail!(
            "cluster {name} is off: switch it on with `oxikube start --name {name}`",
            name = cluster.name
        ),
    }
}

/// Runs kubectl in place of this process; returns only when that failed.
pub(crate) fn kubectl(cluster: &Cluster, arguments: Vec<OsString>) -> anyhow::Error {
    if let Err(error) = must_exist(cluster) {
        return error;
    }
    let error = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig::own_file(cluster))
        .args(arguments)
        .exec();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow::anyhow!("there is no kubectl on this machine's PATH: install it")
        }
        _ => anyhow::Error::new(error).context("cannot run kubectl"),
    }
}

/// Loads the images of an archive into all nodes that run.
pub(crate) fn image_load(cluster: &Cluster, file: &Path) -> anyhow::Result<()> {
    must_run(cluster)?;
    let archive = control::Archive::open(file, &cluster.path("run"))?;
    let mut nodes = cluster.members(&cluster.config()?);
    nodes.retain(|node| node.init().is_some());
    let loaded = std::thread::scope(|scope| {
        let archive = &archive;
        let load = |node| scope.spawn(move || control::load(node, archive));
        let all: Vec<_> = nodes.iter().map(load).collect();
        all.into_iter()
            .map(|load| match load.join() {
                Ok(names) => names,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    for name in loaded.into_iter().next().unwrap_or_default() {
        println!("loaded {name}");
    }
    Ok(())
}

/// Lists the images of the first node.
pub(crate) fn image_list(cluster: &Cluster, as_json: bool) -> anyhow::Result<()> {
    must_run(cluster)?;
    show_images(control::list(&cluster.first(&cluster.config()?))?, as_json);
    Ok(())
}

/// Loads the images of an archive into the node that a server or agent with this data directory runs.
pub(crate) fn host_image_load(data: &Path, file: &Path) -> anyhow::Result<()> {
    let run = data.join("run");
    let archive = control::Archive::open(file, &run)?;
    for name in control::load_at(&run, &archive)? {
        println!("loaded {name}");
    }
    Ok(())
}

/// Lists the images of the node that a server or agent with this data directory runs.
pub(crate) fn host_image_list(data: &Path, as_json: bool) -> anyhow::Result<()> {
    show_images(control::list_at(&data.join("run"))?, as_json);
    Ok(())
}

fn show_images(images: Vec<control::ImageRow>, as_json: bool) {
    if as_json {
        println!("{:#}", json!(images));
        return;
    }
    println!("{:<60} {:<20} SIZE", "IMAGE", "ID");
    for image in images {
        let id: String = image
            .id
            .trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect();
        let mut names = image.names;
        if names.is_empty() {
            names.insert("<none>".to_owned());
        }
        for name in names {
            println!("{name:<60} {id:<20} {}", size(image.bytes));
        }
    }
}

/// A size for people.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
