//! Long runs of the targets of `fuzz/`.
//!
//! With `cargo-bolero` installed (`cargo install cargo-bolero`) a run is guided by coverage, on the stable toolchain and
//! without sanitizers; without it inputs are random. What breaks a target is kept below `fuzz/tests/__fuzz__`.

use std::process::Command;

use clap::Args;

use crate::{build, step};

/// What is run, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// The target; all of them one after the other when none is given.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the targets.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let guided = Command::new("cargo")
        .args(["bolero", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !guided {
        step("cargo-bolero is not installed: inputs are random");
        return random(options);
    }
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    for target in targets {
        step(&format!("{target} for {} s", options.seconds));
        let seconds = format!("{}s", options.seconds);
        let corpus = format!("fuzz/corpus/{target}");
        let mut command = build::cargo();
        command.args(["bolero", "test", "-p", "fuzz-targets", "--sanitizer"]);
        command.args(["NONE", "--corpus-dir", &corpus, "-T", &seconds, &target]);
        crate::run(&mut command)?;
    }
    Ok(())
}

fn random(options: &Options) -> anyhow::Result<()> {
    let mut command = build::cargo();
    command.args(["test", "-p", "fuzz-targets", "--test", "targets"]);
    command.args(&options.target);
    let milliseconds = (options.seconds * 1000).to_string();
    command.env("BOLERO_RANDOM_TEST_TIME_MS", milliseconds);
    crate::run(&mut command)
}

/// The names of the targets: each has a corpus.
fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("fuzz/corpus")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
