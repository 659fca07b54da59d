//! The official conformance tests against a fresh cluster: starts it, runs a suite that the user has, tells what came of it.
//!
//! The suite is upstream's `e2e.test`; a `ginkgo` beside it (the two come in the same archive) runs tests side by side.
//! Every run has a cluster and a directory of its own, named after the process: runs may go on side by side.

mod cluster;
mod control_plane;
mod interrupt;
mod report;
mod topics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{build, install, step};
use cluster::Cluster;
use control_plane::ControlPlane;
use interrupt::Interrupts;
use report::Report;

/// What to run, and on what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Upstream's `e2e.test`; tests run side by side when a `ginkgo` lies next to it.
    #[arg(long)]
    suite: PathBuf,
    /// Only tests whose name matches this regular expression; all conformance tests when not given.
    #[arg(long)]
    focus: Option<String>,
    /// Not those whose name matches this one.
    #[arg(long)]
    skip: Option<String>,
    /// Only the tests that this file names: one a line, each from its `[sig-...]` on; `#` begins a comment.
    #[arg(long, conflicts_with = "focus")]
    names: Option<PathBuf>,
    /// How many tests run side by side, where they allow it.
    #[arg(long, default_value_t = 4)]
    procs: u16,
    /// An API server and controllers alone, no node; unless told otherwise, the tests that need none.
    #[arg(long, conflicts_with_all = ["nodes", "image", "kubeconfig"])]
    control_plane_only: bool,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Archives of images that the tests use, loaded on every node before.
    #[arg(long)]
    image: Vec<PathBuf>,
    /// Run against the cluster of this kubeconfig instead of a fresh one.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Run this program instead of one built here.
    #[arg(long)]
    oxikube: Option<PathBuf>,
    /// The kubectl that tests of the command line use; fetched when not given.
    #[arg(long)]
    kubectl: Option<PathBuf>,
    /// Leave the cluster there afterwards.
    #[arg(long)]
    keep: bool,
    /// Directory for the suite's own report and output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Write one JSON object a test to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs the suite; an error when a test failed or none ran.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let suite = (options.suite.canonicalize())
        .with_context(|| format!("there is no suite at {}", options.suite.display()))?;
    let focus = focus(options)?;
    let kubectl = match &options.kubectl {
        Some(kubectl) => (kubectl.canonicalize())
            .with_context(|| format!("there is no kubectl at {}", kubectl.display()))?,
        None => install::tools()?.join("kubectl-1.36"),
    };
    let run = Run::new(options)?;
    let report = run.output.join("report.json");
    // An old report would be taken for this run's.
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let target = target(options, &run, &kubectl)?;
    step("running the suite");
    let mut command = command(
        &suite,
        options.procs,
        &focus,
        options.skip.as_deref(),
        &run.output,
    );
    command
        .arg(format!("--kubeconfig={}", target.kubeconfig().display()))
        .arg(format!("--kubectl-path={}", kubectl.display()))
        .args(["--provider=skeleton", "--disable-log-dump"])
        .current_dir(&run.output);
    let began = Instant::now();
    // The suite ends with an error when a test fails; its report says which.
    let ended = run.interrupts.run(&mut command)?;
    let told = Report::read(&report)
        .with_context(|| format!("the suite ended with {ended} and left no report"))?;
    print!("{}", told.table());
    println!("\nall in {:.0} s", began.elapsed().as_secs_f64());
    if let Some(file) = &options.json {
        std::fs::write(file, told.json_lines())?;
    }
    println!("everything that the suite said: {}", run.output.display());
    if options.keep {
        println!("the cluster is left: {}", target.keep());
    }
    match told.verdict() {
        _ if run.interrupts.came() => bail!("interrupted"),
        Ok(()) => Ok(()),
        Err(why) => bail!("{why}"),
    }
}

/// What belongs to this run and no other.
struct Run {
    name: String,
    directory: PathBuf,
    output: PathBuf,
    interrupts: Interrupts,
}

impl Run {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let name = format!("conformance-{}", std::process::id());
        let directory = build::target().join("conformance").join(&name);
        let output = match &options.output {
            Some(output) => output.clone(),
            None => directory.join("output"),
        };
        std::fs::create_dir_all(&output)?;
        Ok(Self {
            name,
            directory,
            output: output.canonicalize()?,
            interrupts: Interrupts::watch()?,
        })
    }
}

/// What the suite runs against.
enum Target {
    Given(PathBuf),
    Nodes(Cluster),
    ControlPlane(ControlPlane),
}

impl Target {
    fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Given(kubeconfig) => kubeconfig.clone(),
            Self::Nodes(cluster) => cluster.kubeconfig(),
            Self::ControlPlane(plane) => plane.kubeconfig(),
        }
    }

    /// Leaves it there; the result is how to look at it and end it.
    fn keep(self) -> String {
        match self {
            Self::Given(kubeconfig) => kubeconfig.display().to_string(),
            Self::Nodes(cluster) => cluster.keep(),
            Self::ControlPlane(plane) => plane.keep(),
        }
    }
}

fn target(options: &Options, run: &Run, kubectl: &Path) -> anyhow::Result<Target> {
    if let Some(kubeconfig) = &options.kubeconfig {
        return Ok(Target::Given(kubeconfig.canonicalize()?));
    }
    let program = match &options.oxikube {
        Some(program) => program.canonicalize()?,
        None => {
            install::packages(install::BUILD)?;
            step("building oxikube (a first build takes some minutes)");
            build::release(&["oxikube"])?.join("oxikube")
        }
    };
    let directory = run.directory.join("cluster");
    if options.control_plane_only {
        step("starting an API server and controllers");
        let plane = ControlPlane::start(&program, kubectl, &directory, &run.interrupts)?;
        return Ok(Target::ControlPlane(plane));
    }
    step("starting a cluster");
    let cluster = Cluster::start(
        &program,
        &run.name,
        &directory,
        options.nodes,
        &run.interrupts,
    )?;
    for archive in &options.image {
        step(&format!("loading {}", archive.display()));
        cluster.load(archive)?;
    }
    Ok(Target::Nodes(cluster))
}

/// The regular expression of the tests to run.
fn focus(options: &Options) -> anyhow::Result<String> {
    let Some(file) = &options.names else {
        let all = match options.control_plane_only {
            true => topics::focus(),
            false => r"\[Conformance\]".to_owned(),
        };
        return Ok(options.focus.clone().unwrap_or(all));
    };
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let names: Vec<String> = text.lines().filter_map(named).map(quoted).collect();
    match names.is_empty() {
        true => bail!("{} names no test", file.display()),
        false => Ok(names.join("|")),
    }
}

/// The name of a test in a line of a list, whatever stands before it.
fn named(line: &str) -> Option<&str> {
    let line = line.trim();
    match line.starts_with('#') {
        true => None,
        false => line.find("[sig-").map(|at| &line[at..]),
    }
}

/// The regular expression that matches this text and nothing else.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// The suite by itself, or by `ginkgo` when there is one and several processes are wanted; the suite's own flags follow.
fn command(suite: &Path, procs: u16, focus: &str, skip: Option<&str>, output: &Path) -> Command {
    let ginkgo = suite.with_file_name("ginkgo");
    let together = procs > 1 && ginkgo.exists();
    if procs > 1 && !together {
        println!("no `ginkgo` beside the suite: its tests run one after another");
    }
    let prefix = if together { "--" } else { "--ginkgo." };
    let mut flags = vec![
        format!("{prefix}focus={focus}"),
        format!("{prefix}timeout=6h"),
        format!("{prefix}no-color"),
        format!("{prefix}silence-skips"),
        format!(
            "{prefix}json-report={}",
            output.join("report.json").display()
        ),
    ];
    flags.extend(skip.map(|skip| format!("{prefix}skip={skip}")));
    if !together {
        let mut command = Command::new(suite);
        command.args(flags);
        return command;
    }
    let mut command = Command::new(ginkgo);
    command.args(flags).arg(format!("--procs={procs}"));
    command.args([suite.as_os_str(), &OsString::from("--")]);
    command
}

#[cfg(test)]
mod tests {
    use super::{named, quoted};

    #[test]
    fn a_list_of_tests_names_them_after_anything() {
        assert_eq!(
            named("    0.6\t[sig-auth] Certificates API [Conformance]"),
            Some("[sig-auth] Certificates API [Conformance]")
        );
        assert_eq!(named("# [sig-auth] is not there"), None);
        assert_eq!(named(""), None);
    }

    #[test]
    fn a_quoted_name_matches_itself() {
        assert_eq!(quoted("[sig-cli] a.b (c)"), r"\[sig-cli\] a\.b \(c\)");
    }
}
