//! The API server alone: TLS on, every write on disk, the load from this program on the same machine.
//!
//! Each figure is measured on a server of its own kind, ours and, with `--stock`, `kube-apiserver` with `etcd`, one after
//! the other. What the disk can do stands beside it.

mod crds;
mod disk;
mod latency;
mod lists;
mod load;
mod pki;
mod server;
mod watchers;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::report::Report;
use server::{Kind, Server};

/// What is measured, and how much of it.
#[derive(Args)]
pub(crate) struct Options {
    /// Directory with `kube-apiserver` and `etcd`: they are measured too.
    #[arg(long)]
    stock: Option<PathBuf>,
    /// Only these: start, requests, pods, watchers, selectors, crds.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Connections that send requests.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many seconds creates and gets are sent.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Pods that are listed.
    #[arg(long, default_value_t = 100_000)]
    pods: usize,
    /// Watchers of one kind.
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Watchers of one node's pods each.
    #[arg(long, default_value_t = 5000)]
    selectors: usize,
    /// Watches that share a connection.
    #[arg(long, default_value_t = 100)]
    watches_per_connection: usize,
    /// Where data is kept; its disk is what is measured.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// A figure of one server.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// Figures as they come.
#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        eprintln!("  {name}: {value:.3} {unit}");
        self.0.push(Figure { name, value, unit });
    }

    fn latencies(&mut self, name: &str, mut all: Vec<Duration>) {
        for (part, value) in latency::percentiles(&mut all) {
            self.add(format!("{name}, {part}"), value, "ms");
        }
    }
}

/// Measures ours, then stock servers.
pub(crate) fn run(oxikube: &Path, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    server::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let directory = match &options.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let fsyncs = disk::fsyncs_per_second(directory.path())?;
    report.figure("disk: writes of 4 KiB with fdatasync", fsyncs, "/s")?;
    let ours = Kind::Ours(oxikube.to_owned());
    eprintln!("oxikube");
    let ours = runtime.block_on(measure(&ours, options, directory.path()))?;
    let peer = match &options.stock {
        None => Figures::default(),
        Some(stock) => {
            eprintln!("stock");
            let stock = Kind::Stock(stock.clone());
            runtime.block_on(measure(&stock, options, directory.path()))?
        }
    };
    for figure in &ours.0 {
        let peer = peer.0.iter().find(|p| p.name == figure.name);
        let peer = peer.map(|p| p.value);
        report.compared(&figure.name, figure.value, peer, figure.unit)?;
    }
    Ok(())
}

async fn measure(kind: &Kind, options: &Options, directory: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let wants = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    if wants("start") || wants("requests") {
        let server = Server::start(kind, directory).await?;
        figures.add("ready after start", server.ready.as_secs_f64() * 1e3, "ms");
        // What a start leaves to do is done by then.
        tokio::time::sleep(Duration::from_secs(5)).await;
        figures.add("idle: memory (PSS)", server.memory_mib(), "MiB");
        if wants("requests") {
            load::run(&server, options, &mut figures).await?;
        }
    }
    if wants("pods") {
        let server = Server::start(kind, directory).await?;
        lists::run(&server, options, &mut figures).await?;
    }
    if wants("watchers") {
        let server = Server::start(kind, directory).await?;
        watchers::of_one_kind(&server, options, &mut figures).await?;
    }
    if wants("selectors") {
        let server = Server::start(kind, directory).await?;
        watchers::of_nodes(&server, options, &mut figures).await?;
    }
    if wants("crds") {
        let server = Server::start(kind, directory).await?;
        crds::run(&server, &mut figures).await?;
    }
    Ok(figures)
}
