//! Benchmarks of whole clusters. Each scenario is a module; figures go through [`report::Report`].

mod api;
mod cluster;
mod load;
mod nodes;
mod report;
mod start;
mod throughput;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::Cluster;
use crate::report::Report;

#[derive(Parser)]
struct Cli {
    /// The program `oxikube`.
    #[arg(long)]
    oxikube: PathBuf,
    /// Write one JSON object a figure into this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Start of a cluster, start of a pod, and what an idle cluster costs.
    Start {
        /// How often each start is measured.
        #[arg(long, default_value_t = 5)]
        times: usize,
    },
    /// Three nodes: their start, many pods, a rolling update under load, and the tunnel between them.
    Cluster,
    /// The API server alone: requests, lists, watchers, memory; beside stock servers with `--stock`.
    Api(api::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let measured = || {
        let json = cli.json.as_ref().map(File::create).transpose()?;
        if let Scenario::Api(options) = &cli.scenario {
            return api::run(&cli.oxikube, options, &mut Report::new(json));
        }
        let cluster = Cluster::new(&cli.oxikube, "bench")?;
        match cli.scenario {
            Scenario::Start { times } => start::run(&cluster, times, &mut Report::new(json)),
            Scenario::Cluster => {
                nodes::needs(&cli.oxikube)?;
                nodes::run(&cluster, &mut Report::new(json))
            }
            Scenario::Api(_) => Ok(()),
        }
    };
    match measured() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
