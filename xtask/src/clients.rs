//! The suites and examples of others' clients, from checkouts that somebody has, against a cluster that runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{build, install, run, step};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of checkouts: `kube` (kube-rs/kube), `python` and `javascript` (kubernetes-client); those that are not there
    /// are left out.
    #[arg(long)]
    sources: PathBuf,
    /// A cluster for this alone: what the suites make in its namespace `default` is deleted, and there must be no pods and jobs
    /// before. Its nodes must have or be able to pull the images that the suites name: busybox, alpine, python, `clux/blog`
    /// and several of nginx.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Only this one of them.
    #[arg(long, value_parser = ["kube", "python", "javascript"])]
    only: Option<String>,
}

/// Examples of kube-rs that come to an end by themselves.
const ENDING: &[&str] = &[
    "crd_api",
    "crd_apply",
    "crd_derive",
    "crd_derive_custom_schema",
    "crd_derive_multi",
    "crd_derive_no_schema",
    "crd_derive_schema",
    "custom_client",
    "custom_client_retry",
    "custom_client_trace",
    "dynamic_api",
    "dynamic_jsonpath",
    "dynamic_pod",
    "job_api",
    "pod_api",
    "pod_attach",
    "pod_evict",
    "pod_exec",
    "pod_paged",
    "pod_portforward",
    "pod_portforward_hyper_http",
    "pod_resize",
    "request_raw",
];
/// Those that go on until they are ended; they must still run after a while.
const LASTING: &[&str] = &[
    "crd_reflector",
    "dynamic_watcher",
    "errorbounded_configmap_watcher",
    "event_watcher",
    "multi_watcher",
    "node_reflector",
    "node_watcher",
    "pod_reflector",
    "pod_watcher",
    "secret_reflector",
    "shared_stream_controllers",
];
/// So long they may run, and must.
const PATIENCE: Duration = Duration::from_secs(120);
const WHILE: Duration = Duration::from_secs(8);

/// Runs them, and says at the end which did not pass.
pub(crate) fn run_all(options: &Options) -> anyhow::Result<()> {
    let tools = install::tools()?;
    let kubeconfig = options.kubeconfig.canonicalize();
    let kubeconfig = kubeconfig.context("there is no such kubeconfig")?;
    let suites: [(&str, Suite); 3] = [
        ("kube", kube),
        ("python", python),
        ("javascript", javascript),
    ];
    let mut failed = Vec::new();
    for (name, suite) in suites {
        let sources = options.sources.join(name);
        let wanted = options.only.as_deref().is_none_or(|only| only == name);
        if !wanted || !sources.is_dir() {
            continue;
        }
        step(&format!("the suite of {name}"));
        let place = Place {
            sources: sources.canonicalize()?,
            kubeconfig: kubeconfig.clone(),
            tools: tools.clone(),
        };
        failed.extend(suite(&place)?);
    }
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("these did not pass: {}", failed.join(", ")),
    }
}

/// Gives the names of what did not pass.
type Suite = fn(&Place) -> anyhow::Result<Vec<String>>;

struct Place {
    sources: PathBuf,
    kubeconfig: PathBuf,
    tools: PathBuf,
}

impl Place {
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.sources);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn pass(&self, name: &str, command: &mut Command) -> Vec<String> {
        match run(command) {
            Ok(()) => Vec::new(),
            Err(error) => {
                println!("{error:#}");
                vec![name.to_owned()]
            }
        }
    }
}

fn kube(place: &Place) -> anyhow::Result<Vec<String>> {
    let target = build::target().join("kube");
    let cargo = || {
        let mut command = place.command("cargo");
        command.env("CARGO_TARGET_DIR", &target);
        command
    };
    run(cargo().args(["build", "--package", "kube-examples", "--examples"]))?;
    let kubectl = |arguments: &[&str]| {
        let mut command = place.command(place.tools.join("kubectl-1.36"));
        command.args(arguments).stdout(Stdio::null());
        command.stderr(Stdio::null()).status()
    };
    let found = place
        .command(place.tools.join("kubectl-1.36"))
        .args(["get", "pod,job", "--output=name"])
        .output()?;
    if !found.status.success() || !found.stdout.is_empty() {
        bail!(
            "its namespace must be there and have no pods and jobs, for those would be deleted: use a cluster for this \
             alone, as of `oxikube start --name clients`\n{}{}",
            String::from_utf8_lossy(&found.stdout),
            String::from_utf8_lossy(&found.stderr)
        );
    }
    let mut failed = Vec::new();
    for (names, ends) in [(ENDING, true), (LASTING, false)] {
        for name in names {
            // Most of them make a pod of the same name, and do not wait for its end.
            kubectl(&["delete", "pod,job", "--all", "--force", "--grace-period=0"])?;
            let example = target.join("debug/examples").join(name);
            let passed = watched(&mut place.command(example), ends)?;
            println!("{} {name}", if passed { "passed" } else { "FAILED" });
            failed.extend((!passed).then(|| (*name).to_owned()));
        }
    }
    Ok(failed)
}

/// Whether a program comes to a good end, or goes on as long as it should.
fn watched(command: &mut Command, ends: bool) -> anyhow::Result<bool> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let until = Instant::now() + if ends { PATIENCE } else { WHILE };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ends && status.success());
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(!ends);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn python(place: &Place) -> anyhow::Result<Vec<String>> {
    // The sources want newer modules than the client that the project's own tests install.
    let environment = build::target().join("clients-python");
    let python = place.tools.join("clients/bin/python");
    run(place.command(python).args(["-m", "venv"]).arg(&environment))?;
    let quiet = ["install", "--quiet", "--disable-pip-version-check"];
    run(place
        .command(environment.join("bin/pip"))
        .args(quiet)
        .args(["pytest", "--requirement", "requirements.txt"]))?;
    let mut suite = place.command(environment.join("bin/python"));
    suite.args(["-m", "pytest", "-q", "kubernetes/e2e_test"]);
    Ok(place.pass("python", &mut suite))
}

fn javascript(place: &Place) -> anyhow::Result<Vec<String>> {
    let programs = place.tools.join("clients/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let npm = |arguments: &[&str]| {
        let mut command = place.command(programs.join("npm"));
        command
            .env("PATH", joined(&programs, &path))
            .args(arguments);
        command
    };
    run(&mut npm(&["ci", "--silent", "--ignore-scripts"]))?;
    let mut suite = npm(&["run", "--silent", "integration-test"]);
    Ok(place.pass("javascript", &mut suite))
}

fn joined(first: &Path, rest: &str) -> String {
    format!("{}:{rest}", first.display())
}
