//! The project's chores: `cargo xtask demo`, `test`, `bench`, `sim`, `interop`, `layout`, `tidy`.
//!
//! Each installs what it needs (Debian packages and PyPI wheels by name), builds, and says what it is doing.

mod build;
mod clients;
mod conformance;
mod fuzz;
mod install;
#[cfg(target_arch = "x86_64")]
mod layout;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::bail;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run the Guestbook on a cluster of this machine.
    Demo {
        /// Delete the cluster afterwards and exit with 0 or 1.
        #[arg(long)]
        check: bool,
        /// Name of the cluster.
        #[arg(long, default_value = "guestbook")]
        name: String,
    },
    /// Run every test of the project, those on real containers included.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// Measure a scenario (`start`, `store`); every figure is told with its unit, and beside a peer's where one ran.
    Bench {
        /// The scenario and its options, for example `start --times 5 --json FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Run a simulation any number of times; a failing run is told as a seed.
    Sim {
        #[command(subcommand)]
        what: Simulation,
    },
    /// Run the official conformance tests against a fresh cluster, from a suite that you have.
    Conformance(Box<conformance::Options>),
    /// Run the suites and examples of others' clients against a cluster that runs, from checkouts that you have.
    Clients(clients::Options),
    /// Run stock components beside ours, each side against the other's API server.
    Interop {
        /// Folder of stock kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet and etcd.
        #[arg(long)]
        stock: PathBuf,
        /// Only the scenario of this name.
        #[arg(long)]
        only: Option<String>,
        /// Keep what the processes say in this folder.
        #[arg(long)]
        logs: Option<PathBuf>,
    },
    /// Look for bytes that break what reads them: one target for long, guided by coverage, or all of them for a while.
    Fuzz(fuzz::Options),
    /// Find out which functions a start runs, and have the linker put them side by side.
    #[cfg(target_arch = "x86_64")]
    Layout(layout::Options),
    /// Ask a stock kube-apiserver v1.37 what it answers, and write that down beside our answers.
    Differential {
        /// The directory of its program; etcd is installed.
        #[arg(long)]
        stock: PathBuf,
    },
    /// Check formatting, lints, the crate graph and a few rules of the house.
    Tidy,
}

#[derive(Subcommand)]
enum Simulation {
    /// Lives of the store on a simulated disk that does everything a disk may do.
    Store {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Kills of the real process under load.
    Kill {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        times: u64,
        /// What the clients do follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Demo { check, name } => demo(check, &name),
        Chore::Test { filter } => test::run(filter.as_deref()),
        Chore::Bench { arguments } => bench(&arguments),
        Chore::Sim { what } => sim(&what),
        Chore::Fuzz(options) => fuzz::run(&options),
        #[cfg(target_arch = "x86_64")]
        Chore::Layout(options) => layout::run(&options),
        Chore::Clients(options) => clients::run_all(&options),
        Chore::Conformance(options) => conformance::run(&options),
        Chore::Interop { stock, only, logs } => interop(&stock, only.as_deref(), logs.as_deref()),
        Chore::Differential { stock } => differential(&stock),
        Chore::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what happens next.
fn step(what: &str) {
    println!("==> {what}");
}

/// Runs a command to its end, its output shown as it comes.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{shown}` ended with {status}"),
        Err(error) => bail!("cannot run `{shown}`: {error}"),
    }
}

fn demo(check: bool, name: &str) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(install::DEMO)?;
    step("building oxikube and the demo (a first build takes some minutes)");
    let built = build::release(&["oxikube", "demo-app", "guestbook-demo"])?;
    let mut command = Command::new(built.join("guestbook-demo"));
    command.arg("--oxikube").arg(built.join("oxikube"));
    command.arg("--app").arg(built.join("demo-app"));
    command.args(["--name", name]);
    if check {
        command.arg("--check");
    }
    run(&mut command)
}

/// The store's figures need none of the rest, but a real etcd.
fn bench_store(arguments: &[String]) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(&["etcd-server"])?;
    step("building the store's benchmark");
    let built = build::release(&["store-proof"])?;
    let mut command = Command::new(built.join("store-proof"));
    run(command
        .current_dir(build::target())
        .arg("bench")
        .args(arguments))
}

fn sim(what: &Simulation) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    step("building (a first build takes some minutes)");
    let built = match what {
        Simulation::Store { .. } => build::release(&["store-proof"])?,
        Simulation::Kill { .. } => build::release(&["store-proof", "oxikube"])?,
    };
    let mut command = Command::new(built.join("store-proof"));
    match what {
        Simulation::Store { seeds, from } => {
            command.args(["sim", "--seeds", &seeds.to_string()]);
            command.args(["--from", &from.to_string()]);
        }
        Simulation::Kill { times, seed } => {
            command.args(["kill", "--times", &times.to_string()]);
            command.args(["--seed", &seed.to_string()]);
            command.arg("--oxikube").arg(built.join("oxikube"));
        }
    }
    run(&mut command)
}

/// Both sides, in network namespaces of their own.
fn interop(stock: &Path, only: Option<&str>, logs: Option<&Path>) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(install::TEST)?;
    install::packages(install::INTEROP)?;
    let tools = install::tools()?;
    step("building");
    let built = build::debug(&["oxikube", "cluster-tests"])?;
    let mut command = Command::new(built.join("interop"));
    command.env("OXIKUBE_TEST_PROGRAMS", &built);
    command.env("OXIKUBE_TEST_TOOLS", &tools);
    command.arg("--stock").arg(stock);
    for (flag, value) in [("--only", only.map(Path::new)), ("--logs", logs)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    run(&mut command)
}

/// The facts of `crates/apiserver/tests/it/differential`, made anew; then the test that holds our answers against them.
fn differential(stock: &Path) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(&["etcd-server"])?;
    step("asking the stock server");
    let test = [
        "test",
        "--locked",
        "-p",
        "apiserver",
        "--test",
        "it",
        "differential",
    ];
    let stock = stock.canonicalize()?;
    let mut command = build::cargo();
    command.args(test).args(["--", "--nocapture"]);
    run(command.env("OXIKUBE_DIFFERENTIAL_STOCK", stock))?;
    step("comparing");
    run(build::cargo().args(test))
}

fn bench(arguments: &[String]) -> anyhow::Result<()> {
    if arguments
        .first()
        .is_some_and(|scenario| scenario == "store")
    {
        return bench_store(&arguments[1..]);
    }
    install::packages(install::BUILD)?;
    step("building oxikube and the benchmarks (a first build takes some minutes)");
    // The API server alone needs no images.
    let built = match arguments.first().is_some_and(|scenario| scenario == "api") {
        true => build::release(&["oxikube", "cluster-bench"])?,
        false => {
            install::packages(install::DEMO)?;
            build::release(&["oxikube", "cluster-bench", "demo-app"])?
        }
    };
    let mut command = Command::new(built.join("cluster-bench"));
    run(command
        .arg("--oxikube")
        .arg(built.join("oxikube"))
        .args(arguments))
}
