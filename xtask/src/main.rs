//! The project's chores: `cargo xtask demo`, `test`, `bench`, `tidy`.
//!
//! Each installs what it needs (Debian packages and PyPI wheels by name), builds, and says what it is doing.

mod build;
mod install;
mod test;
mod tidy;

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
    /// Measure a scenario (`start`); every figure is told with its unit, and beside a peer's where one ran.
    Bench {
        /// The scenario and its options, for example `start --times 5 --json FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, the crate graph and a few rules of the house.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Demo { check, name } => demo(check, &name),
        Chore::Test { filter } => test::run(filter.as_deref()),
        Chore::Bench { arguments } => bench(&arguments),
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

fn bench(arguments: &[String]) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(install::DEMO)?;
    step("building oxikube and the benchmarks (a first build takes some minutes)");
    let built = build::release(&["oxikube", "cluster-bench"])?;
    let mut command = Command::new(built.join("cluster-bench"));
    run(command
        .arg("--oxikube")
        .arg(built.join("oxikube"))
        .args(arguments))
}
