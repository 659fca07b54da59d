//! An API server and controllers alone, on loopback: no scheduler, no kubelet, nothing of the kernel's.
//!
//! Two Node objects stand for nodes, because the suite begins with nothing less than one that is ready. Nobody is behind
//! them: the controller that would notice is switched off.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::interrupt::Interrupts;

/// Where the API server says that it is. An address for documentation: nobody goes there, clients come over loopback.
const ADDRESS: &str = "192.0.2.1";
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// The nodes that are none.
const NODES: [&str; 2] = ["none-1", "none-2"];

/// The two processes, their data and what they say; gone when dropped.
pub(super) struct ControlPlane {
    directory: PathBuf,
    processes: Vec<Child>,
    kept: bool,
}

impl ControlPlane {
    /// Starts one in this directory.
    pub(super) fn start(
        program: &Path,
        kubectl: &Path,
        directory: &Path,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut plane = Self {
            directory: directory.canonicalize()?,
            processes: Vec::new(),
            kept: false,
        };
        plane.server(program, interrupts)?;
        plane.controllers(program)?;
        for node in NODES {
            plane.node(kubectl, interrupts, node)?;
        }
        Ok(plane)
    }

    /// Where clients learn of it.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Leaves it there; the result is the command that ends it.
    pub(super) fn keep(mut self) -> String {
        self.kept = true;
        let pids: Vec<String> = self
            .processes
            .iter()
            .map(|child| child.id().to_string())
            .collect();
        let (kubeconfig, directory) = (self.kubeconfig(), self.directory.display());
        format!(
            "KUBECONFIG={} kubectl get namespaces; kill {}; rm -r {directory}",
            kubeconfig.display(),
            pids.join(" ")
        )
    }

    /// The server makes all certificates, and tells its supervisor when it is up: us.
    fn server(&mut self, program: &Path, interrupts: &Interrupts) -> anyhow::Result<()> {
        let told = self.directory.join("ready");
        let ready = UnixDatagram::bind(&told).context("cannot listen for the server")?;
        ready.set_read_timeout(Some(Duration::from_secs(1)))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program);
        command
            .args(["server", "--node-name", "control-plane", "--node-ip"])
            .args([ADDRESS, "--bind-address", "127.0.0.1"])
            .args(["--https-listen-port", &port.to_string()])
            .args(["--disable-agent", "--disable-dns", "--disable-scheduler"])
            .arg("--disable-controller-manager")
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .arg("--write-kubeconfig")
            .arg(self.kubeconfig())
            .env("NOTIFY_SOCKET", &told);
        self.spawn("server", command)?;
        let began = Instant::now();
        while ready.recv(&mut [0; 256]).is_err() {
            let gone = match self.processes.last_mut() {
                Some(server) => server.try_wait()?,
                None => None,
            };
            if gone.is_some() || interrupts.came() || began.elapsed() > PATIENCE {
                bail!("the server did not start:\n{}", self.log("server"));
            }
        }
        Ok(())
    }

    fn controllers(&mut self, program: &Path) -> anyhow::Result<()> {
        let pki = self.directory.join("data/server/pki");
        let flag = |name: &str, file: PathBuf| format!("--{name}={}", file.display());
        let mut command = Command::new(program);
        command
            .arg("kube-controller-manager")
            .arg("--controllers=*,-node-lifecycle-controller")
            .args(["--use-service-account-credentials", "--leader-elect=false"])
            .arg("--secure-port=0")
            .arg(flag("kubeconfig", self.kubeconfig()))
            .arg(flag("root-ca-file", pki.join("ca.crt")))
            .arg(flag("cluster-signing-cert-file", pki.join("ca.crt")))
            .arg(flag("cluster-signing-key-file", pki.join("ca.key")))
            .arg(flag("service-account-private-key-file", pki.join("sa.key")));
        self.spawn("controllers", command)
    }

    /// A Node as if its kubelet had just said that all is well.
    fn node(&self, kubectl: &Path, interrupts: &Interrupts, name: &str) -> anyhow::Result<()> {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        let file = self.directory.join(format!("{name}.json"));
        std::fs::write(&file, node.to_string())?;
        let file = file.display().to_string();
        self.kubectl(kubectl, interrupts, &["create", "--filename", &file])?;
        // A new node is tainted until somebody has seen that it is ready.
        let untainted = json!({ "spec": { "taints": null } }).to_string();
        self.kubectl(
            kubectl,
            interrupts,
            &["patch", "node", name, "-p", &untainted],
        )?;
        let status = status().to_string();
        self.kubectl(
            kubectl,
            interrupts,
            &["patch", "node", name, "--subresource=status", "-p", &status],
        )
    }

    fn kubectl(
        &self,
        kubectl: &Path,
        interrupts: &Interrupts,
        arguments: &[&str],
    ) -> anyhow::Result<()> {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.args(arguments).stdout(Stdio::null());
        match interrupts.run(&mut command)? {
            status if status.success() => Ok(()),
            status => bail!("kubectl {} ended with {status}", arguments.join(" ")),
        }
    }

    /// Starts a program that the terminal does not know.
    fn spawn(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.directory.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?);
        let started = command.stderr(log).process_group(0).spawn();
        let child = started.with_context(|| format!("cannot start the {name}"))?;
        self.processes.push(child);
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The controllers first: they need not complain of a server that is gone.
        for child in self.processes.iter_mut().rev() {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            if let (false, Ok(pid)) = (ended, child.id().try_into()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                let _ = child.wait();
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}

/// What a kubelet tells of a healthy node.
fn status() -> Value {
    let room = json!({ "cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "50Gi" });
    let condition = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason });
    json!({ "status": {
        "capacity": room,
        "allocatable": room,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
    } })
}
