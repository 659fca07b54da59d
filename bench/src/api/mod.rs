//! The API server alone: TLS on, every write on disk, the load from this program on the same machine.
//!
//! Each scenario is measured on a server of its own, ours and then, with `--stock`, `kube-apiserver` with `etcd`. What the
//! disk can do stands beside it, and beside each figure what is promised of it ([`bounds`]).

mod bounds;
mod crds;
mod disk;
mod latency;
mod lists;
mod load;
mod pki;
mod seats;
mod server;
mod watchers;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::report::Report;
use server::{Kind, Server};

/// What can be measured.
const SCENARIOS: [&str; 7] = [
    "start",
    "requests",
    "pods",
    "watchers",
    "selectors",
    "crds",
    "seats",
];
/// No scenario takes longer; a server that does has failed at it.
const PATIENCE: Duration = Duration::from_secs(150);

/// What is measured, and how much of it.
#[derive(Args)]
pub(crate) struct Options {
    /// Directory with `kube-apiserver` and `etcd`: they are measured too.
    #[arg(long)]
    stock: Option<PathBuf>,
    /// Only these: start, requests, pods, watchers, selectors, crds, seats.
    #[arg(long, value_delimiter = ',', value_parser = SCENARIOS)]
    only: Vec<String>,
    /// Connections that send requests.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// ConfigMaps that are created and then listed.
    #[arg(long, default_value_t = 33_000)]
    objects: usize,
    /// For how many seconds they are read.
    #[arg(long, default_value_t = 8)]
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
        self.0.push(Figure { name, value, unit });
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|f| f.name == name).map(|f| f.value)
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
    let stock = options.stock.clone().map(Kind::Stock);
    let (mut failed, mut missed) = (0, Vec::new());
    let chosen = |name: &&str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    for scenario in SCENARIOS.into_iter().filter(|name| chosen(name)) {
        let mut measure = |kind: &Kind| {
            let began = std::time::Instant::now();
            let measured = runtime.block_on(measure(kind, scenario, options, directory.path()));
            let took = began.elapsed().as_secs();
            eprintln!("  ({scenario}: {took} s with {})", kind.name());
            measured.unwrap_or_else(|error| {
                eprintln!("  {scenario} failed with {}: {error:#}", kind.name());
                failed += usize::from(matches!(kind, Kind::Ours(_)));
                Figures::default()
            })
        };
        let own = measure(&ours);
        let peer = match &stock {
            Some(stock) if scenario != "seats" => measure(stock),
            _ => Figures::default(),
        };
        for figure in &own.0 {
            let verdict = bounds::verdict(&figure.name, figure.value, &own, &peer);
            if verdict.as_ref().is_some_and(|verdict| !verdict.holds) {
                missed.push(figure.name.clone());
            }
            let peer = peer.get(&figure.name);
            report.bounded(&figure.name, figure.value, peer, figure.unit, verdict)?;
        }
    }
    match missed.as_slice() {
        [] => println!("every bound that was measured holds"),
        missed => println!("missed: {}", missed.join("; ")),
    }
    if failed > 0 {
        bail!("{failed} scenarios came to no end");
    }
    Ok(())
}

async fn measure(
    kind: &Kind,
    scenario: &str,
    options: &Options,
    directory: &Path,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let measured = one(kind, scenario, options, directory, &mut figures);
    let in_time = tokio::time::timeout(PATIENCE, measured).await;
    in_time.context("it took too long")??;
    Ok(figures)
}

async fn one(
    kind: &Kind,
    scenario: &str,
    options: &Options,
    directory: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    match scenario {
        "seats" => return seats::run(figures).await,
        "start" => return server::starts(kind, directory, figures).await,
        _ => {}
    }
    let server = Server::start(kind, directory).await?;
    match scenario {
        "requests" => load::run(&server, options, figures).await,
        "pods" => lists::run(&server, options, figures).await,
        "watchers" => watchers::of_one_kind(&server, options, figures).await,
        "selectors" => watchers::of_nodes(&server, options, figures).await,
        _ => crds::run(&server, figures).await,
    }
}
