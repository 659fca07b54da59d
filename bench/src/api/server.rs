//! A server to measure: started, looked at, ended.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Figures;
use super::pki::Pki;
use super::wire::Connection;
use crate::report::median;

/// How often somebody who waits for a start looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start is measured.
const STARTS: usize = 3;

/// Whose server it is.
pub(super) enum Kind {
    /// Ours: the program.
    Ours(PathBuf),
    /// Upstream's: the directory of its programs.
    Stock(PathBuf),
}

impl Kind {
    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "oxikube",
            Self::Stock(_) => "the stock server",
        }
    }
}

/// When a server is ready, and what it takes when nobody asks it anything.
pub(super) async fn starts(
    kind: &Kind,
    directory: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(kind, directory).await?;
        ready.push(server.ready.as_secs_f64() * 1e3);
    }
    figures.add("ready after start", median(ready), "ms");
    let server = Server::start(kind, directory).await?;
    // What a start leaves to do is done by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, began) = (server.processor_seconds(), Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = server.processor_seconds() - before;
    let part = 100.0 * spent / began.elapsed().as_secs_f64();
    figures.add("idle: memory (PSS)", server.memory_mib(), "MiB");
    figures.add("idle: of one core", part, "%");
    Ok(())
}

/// A server at work; it ends with this.
pub(super) struct Server {
    processes: Vec<Child>,
    pub(super) pki: Pki,
    pub(super) port: u16,
    /// From its start until it said that it is ready.
    pub(super) ready: Duration,
    _directory: tempfile::TempDir,
}

/// A port that nobody has at this moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// As many connections as the system allows.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, connections fail and say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn flags(pki: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    [
        ("secure-port", port.to_string()),
        ("bind-address", "127.0.0.1".to_owned()),
        // Nobody is sent there; upstream takes no loopback address.
        ("advertise-address", "192.0.2.1".to_owned()),
        ("tls-cert-file", file("server.crt")),
        ("tls-private-key-file", file("server.key")),
        ("client-ca-file", file("ca.crt")),
        ("service-account-key-file", file("sa.pub")),
        ("service-account-signing-key-file", file("sa.key")),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc".to_owned(),
        ),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        // Nobody makes service accounts here.
        ("disable-admission-plugins", "ServiceAccount".to_owned()),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .to_vec()
}

fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let out = std::fs::File::create(log)?;
    let started = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn();
    started.with_context(|| format!("cannot start {}", command.get_program().display()))
}

impl Server {
    /// Starts one on an empty directory below `directory`.
    pub(super) async fn start(kind: &Kind, directory: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(directory)?;
        let at = directory.path();
        let pki = Pki::create(&at.join("pki"))?;
        let port = free_port()?;
        let mut processes = Vec::new();
        let mut command = match kind {
            Kind::Ours(program) => {
                let mut command = Command::new(program);
                command.arg("kube-apiserver");
                command.arg(format!("--data-dir={}", at.join("data").display()));
                command
            }
            Kind::Stock(programs) => {
                let (client, peer) = (free_port()?, free_port()?);
                let url = |port: u16| format!("http://127.0.0.1:{port}");
                let mut etcd = Command::new(programs.join("etcd"));
                etcd.arg(format!("--data-dir={}", at.join("etcd").display()))
                    .arg(format!("--listen-client-urls={}", url(client)))
                    .arg(format!("--advertise-client-urls={}", url(client)))
                    .arg(format!("--listen-peer-urls={}", url(peer)))
                    .arg(format!("--initial-advertise-peer-urls={}", url(peer)))
                    .arg(format!("--initial-cluster=default={}", url(peer)))
                    .arg("--quota-backend-bytes=8589934592");
                processes.push(spawn(&mut etcd, &at.join("etcd.log"))?);
                let mut command = Command::new(programs.join("kube-apiserver"));
                command.arg(format!("--etcd-servers={}", url(client)));
                command
            }
        };
        command.args(flags(&pki.directory, port));
        let began = Instant::now();
        let log = at.join("server.log");
        processes.push(spawn(&mut command, &log)?);
        let mut server = Self {
            processes,
            pki,
            port,
            ready: Duration::ZERO,
            _directory: directory,
        };
        while !server.is_ready().await {
            let ended = server
                .processes
                .iter_mut()
                .any(|p| !matches!(p.try_wait(), Ok(None)));
            if ended || began.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                bail!("the server is not ready: {last}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        server.ready = began.elapsed();
        Ok(server)
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = self.connect().await else {
            return false;
        };
        let request = connection.request("GET", "/readyz", None);
        let asked = connection.exchange(&request).await;
        asked.is_ok_and(|answer| answer.code == 200)
    }

    /// A connection for requests.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.port, self.pki.client(b"http/1.1")?).await
    }

    /// Sends one request that must succeed; gives the body.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut connection = self.connect().await?;
        let request = connection.request(method, path, body);
        let answer = connection.exchange(&request).await?;
        if answer.code >= 300 {
            let said = String::from_utf8_lossy(&answer.body);
            bail!("{method} {path}: {}: {said}", answer.code);
        }
        Ok(answer.body)
    }

    /// The memory of all its processes.
    pub(super) fn memory_mib(&self) -> f64 {
        self.sum("smaps_rollup", "Pss:") / 1024.0
    }

    /// The most memory that they had at a time since [`Server::forget_peak`].
    pub(super) fn peak_mib(&self) -> f64 {
        self.sum("status", "VmHWM:") / 1024.0
    }

    /// The memory that they have now, as [`Server::peak_mib`] counts it.
    pub(super) fn resident_mib(&self) -> f64 {
        self.sum("status", "VmRSS:") / 1024.0
    }

    /// From now on the peak counts.
    pub(super) fn forget_peak(&self) {
        for process in &self.processes {
            // Without the right to, the peak is that of before too.
            let _ = std::fs::write(format!("/proc/{}/clear_refs", process.id()), "5");
        }
    }

    /// What they have taken of processors until now.
    pub(super) fn processor_seconds(&self) -> f64 {
        let of = |process: &Child| -> Option<f64> {
            let text = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).ok()?;
            // The name before them may hold spaces.
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
            Some((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
        };
        self.processes.iter().filter_map(of).sum()
    }

    fn sum(&self, file: &str, field: &str) -> f64 {
        let of = |process: &Child| -> Option<f64> {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", process.id())).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse().ok()
        };
        self.processes.iter().filter_map(of).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server first, then its store.
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
