//! A real etcd cluster on loopback: Debian's `etcd`, members started, killed, paused, stopped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The cluster; all of it is gone when this is dropped.
pub struct Cluster {
    members: Vec<Member>,
    home: tempfile::TempDir,
}

/// What clients need to show and members too, as files in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Who signed the members' and the clients' certificates.
    pub authority: PathBuf,
    /// The members' certificate and key.
    pub identity: (PathBuf, PathBuf),
}

struct Member {
    arguments: Vec<String>,
    client: String,
    child: Option<Child>,
}

/// Ports that are free now; all are held until all are found.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    held.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}

impl Cluster {
    /// Starts so many members; [`Cluster::wait`] waits until they listen.
    pub fn start(count: usize, tls: Option<&Files>) -> anyhow::Result<Cluster> {
        Cluster::start_in(&std::env::temp_dir(), count, tls)
    }

    /// The same with the members' data below a directory.
    pub fn start_in(dir: &Path, count: usize, tls: Option<&Files>) -> anyhow::Result<Cluster> {
        let home = tempfile::tempdir_in(dir)?;
        let ports = free_ports(2 * count)?;
        let peer = |number: usize| format!("http://127.0.0.1:{}", ports[count + number]);
        let all: Vec<String> = (0..count).map(|n| format!("m{n}={}", peer(n))).collect();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let members = (0..count).map(|number| {
            let client = format!("{scheme}://127.0.0.1:{}", ports[number]);
            let dir = home.path().join(format!("m{number}"));
            let mut arguments: Vec<String> = [
                ("name", format!("m{number}")),
                ("data-dir", dir.display().to_string()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client.clone()),
                ("listen-peer-urls", peer(number)),
                ("initial-advertise-peer-urls", peer(number)),
                ("initial-cluster", all.join(",")),
                ("initial-cluster-state", "new".into()),
                ("log-level", "error".into()),
                ("logger", "zap".into()),
                ("max-txn-ops", "10000".into()),
            ]
            .iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
            if let Some(files) = tls {
                arguments.extend([
                    format!("--cert-file={}", files.identity.0.display()),
                    format!("--key-file={}", files.identity.1.display()),
                    format!("--trusted-ca-file={}", files.authority.display()),
                    "--client-cert-auth=true".into(),
                ]);
            }
            Member {
                arguments,
                client,
                child: None,
            }
        });
        let mut cluster = Cluster {
            members: members.collect(),
            home,
        };
        for number in 0..count {
            cluster.start_member(number)?;
        }
        Ok(cluster)
    }

    /// Where clients go.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| m.client.clone()).collect()
    }

    /// Starts a member that was killed.
    pub fn start_member(&mut self, number: usize) -> anyhow::Result<()> {
        let log = self.home.path().join(format!("m{number}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        let member = &mut self.members[number];
        let child = Command::new("etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run etcd: install Debian's etcd-server")?;
        member.child = Some(child);
        Ok(())
    }

    /// Waits until the members accept connections.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        for member in &mut self.members {
            let address = member.client.split("://").nth(1).unwrap_or_default();
            while std::net::TcpStream::connect(address).is_err() {
                let ended = member.child.as_mut().map(Child::try_wait);
                if let Some(Ok(Some(status))) = ended {
                    bail!("a member of etcd ended with {status}");
                }
                if began.elapsed() > Duration::from_secs(60) {
                    bail!("etcd does not listen within a minute");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.members[number].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a member in its tracks: its connections stay open and say nothing.
    pub fn pause(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::STOP)
    }

    /// Lets a paused member go on.
    pub fn resume(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::CONT)
    }

    fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.members[number].child.as_ref();
        let pid = child.and_then(|child| Pid::from_raw(child.id() as i32));
        kill_process(pid.context("the member does not run")?, signal)?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            // One that is gone already is fine.
            let _ = self.kill(number);
        }
    }
}
