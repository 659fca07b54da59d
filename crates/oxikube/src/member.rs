//! A node of a cluster on this machine: its number, what follows from it, and its directory.
//!
//! The first node is the cluster's control plane and lives in the cluster's own directory; every other one has a directory
//! below it, with the few certificates it needs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use linux::process::Process;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Config, make_private_dir, read_config, write_private};

/// Number of the node with the control plane.
const FIRST: u8 = 1;
/// As many nodes have addresses on the cluster's bridge.
pub(crate) const MOST_NODES: u8 = 200;
/// The record of a node other than the first.
const RECORD: &str = "node.json";

/// Which node of which cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NodeConfig {
    pub(crate) cluster: Config,
    number: u8,
}

impl NodeConfig {
    pub(crate) fn first(cluster: &Config) -> Self {
        Self {
            cluster: cluster.clone(),
            number: FIRST,
        }
    }

    /// What the inside of a node reads about itself.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let record = dir.join(RECORD);
        match fs::read(&record) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("cannot read {}", record.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::first(&read_config(&dir.join("cluster.json"))?))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", record.display())),
        }
    }

    /// It has the control plane.
    pub(crate) fn is_first(&self) -> bool {
        self.number == FIRST
    }

    /// The node's name in the API, and its host name.
    pub(crate) fn name(&self) -> String {
        match self.is_first() {
            true => format!("oxikube-{}", self.cluster.name),
            false => format!("oxikube-{}-{}", self.cluster.name, self.number),
        }
    }

    /// Its address on the cluster's bridge; the machine has the one before the first node's.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.cluster.subnet, self.number + 1)
    }

    /// The machine's end of the node's cable.
    pub(crate) fn cable(&self) -> String {
        format!("{}n{}", self.cluster.bridge(), self.number)
    }

    /// The control group of all that runs in the node. Nodes stand side by side, and no cluster's name has a dot.
    pub(crate) fn cgroup(&self) -> String {
        match self.is_first() {
            true => format!("oxikube/{}", self.cluster.name),
            false => format!("oxikube/{}.{}", self.cluster.name, self.number),
        }
    }
}

/// A node on disk.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) config: NodeConfig,
    /// Its directory.
    pub(crate) dir: PathBuf,
}

/// The running init of a node.
#[derive(Debug, Serialize, Deserialize)]
struct InitRecord {
    pid: i32,
    /// When it started, in the kernel's ticks: tells it from a later process of the same number.
    started: u64,
}

impl Member {
    /// A file or directory of the node.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes directory and record of a node other than the first.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        make_private_dir(&self.dir)?;
        let record = serde_json::to_vec_pretty(&self.config)?;
        write_private(&self.path(RECORD), &record)
    }

    /// Notes the init of the node that has just been started.
    pub(crate) fn record_init(&self, init: &Process) -> anyhow::Result<()> {
        let pid = init.pid().as_raw_nonzero().get();
        let started = start_time(pid).context("the node's init is gone already")?;
        make_private_dir(&self.path("run"))?;
        let record = serde_json::to_vec(&InitRecord { pid, started })?;
        write_private(&self.path("run/init.json"), &record)
    }

    /// The running init of the node, if it runs.
    pub(crate) fn init(&self) -> Option<Process> {
        let record = fs::read(self.path("run/init.json")).ok()?;
        let record: InitRecord = serde_json::from_slice(&record).ok()?;
        let process = Process::open(Pid::from_raw(record.pid)?).ok()?;
        // Looked at after it was opened: if the number is still the same process now, it was then.
        let same = start_time(record.pid) == Some(record.started);
        let running = same && !process.wait_exit(Some(Duration::ZERO)).ok()?;
        running.then_some(process)
    }
}

impl Cluster {
    fn member(&self, config: &Config, number: u8) -> Member {
        let dir = match number {
            FIRST => self.dir.clone(),
            _ => self.path("nodes").join(number.to_string()),
        };
        Member {
            config: NodeConfig {
                cluster: config.clone(),
                number,
            },
            dir,
        }
    }

    /// The node with the control plane.
    pub(crate) fn first(&self, config: &Config) -> Member {
        self.member(config, FIRST)
    }

    /// All nodes, the first one first.
    pub(crate) fn members(&self, config: &Config) -> Vec<Member> {
        let entries = fs::read_dir(self.path("nodes")).into_iter().flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u8>().ok();
        let mut numbers: Vec<u8> = entries.flatten().filter_map(number).collect();
        numbers.retain(|number| *number > FIRST && *number <= MOST_NODES);
        numbers.push(FIRST);
        numbers.sort_unstable();
        let member = |number| self.member(config, number);
        numbers.into_iter().map(member).collect()
    }

    /// A node that is not there yet, under the first free number.
    pub(crate) fn next_member(&self, config: &Config) -> anyhow::Result<Member> {
        let there = self.members(config);
        let taken = |number: &u8| there.iter().any(|member| member.config.number == *number);
        match (FIRST..=MOST_NODES).find(|number| !taken(number)) {
            Some(number) => Ok(self.member(config, number)),
            None => bail!("a cluster has at most {MOST_NODES} nodes"),
        }
    }

    /// The node of this name, or of this number.
    pub(crate) fn member_named(&self, config: &Config, name: &str) -> anyhow::Result<Member> {
        let is_it = |member: &Member| {
            member.config.name() == name || member.config.number.to_string() == name
        };
        let members = self.members(config);
        let names: Vec<String> = members.iter().map(|member| member.config.name()).collect();
        members.into_iter().find(is_it).with_context(|| {
            let (cluster, names) = (&self.name, names.join(", "));
            format!("cluster {cluster} has no node {name}; it has {names}")
        })
    }

    /// A node of the cluster runs.
    pub(crate) fn runs(&self, config: &Config) -> bool {
        let members = self.members(config);
        members.iter().any(|member| member.init().is_some())
    }
}

/// When a process started, from `/proc/<pid>/stat`.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Clusters;

    #[test]
    fn nodes_follow_from_their_numbers() {
        let dir = tempfile::tempdir().expect("a directory");
        let clusters = Clusters::new(dir.path().to_owned());
        let cluster = clusters.cluster("c").expect("a name");
        let config = Config::new("c", 7, 6443);
        cluster.create(&config).expect("made");
        assert_eq!(cluster.members(&config).len(), 1);
        for _ in 0..2 {
            let next = cluster.next_member(&config).expect("room");
            next.create().expect("made");
            assert_eq!(NodeConfig::read(&next.dir).expect("read"), next.config);
        }
        let members = cluster.members(&config);
        let rows: Vec<String> = members
            .iter()
            .map(|m| {
                format!(
                    "{} {} {}",
                    m.config.name(),
                    m.config.address(),
                    m.config.cgroup()
                )
            })
            .collect();
        expect_test::expect![[r#"
            oxikube-c 172.30.7.2 oxikube/c
            oxikube-c-2 172.30.7.3 oxikube/c.2
            oxikube-c-3 172.30.7.4 oxikube/c.3"#]]
        .assert_eq(&rows.join("\n"));
        assert!(members.iter().all(|m| m.init().is_none()) && !cluster.runs(&config));
        fs::remove_dir_all(&members[1].dir).expect("removed");
        let next = cluster.next_member(&config).expect("room");
        assert_eq!(next.config.name(), "oxikube-c-2");
        for name in ["3", "oxikube-c-3"] {
            let found = cluster.member_named(&config, name).expect("there");
            assert_eq!(found.config.number, 3);
        }
        let error = cluster.member_named(&config, "x").expect_err("unknown");
        let said = "cluster c has no node x; it has oxikube-c, oxikube-c-3";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn interfaces_have_names_the_kernel_takes() {
        let cluster = Config::new("a-cluster-with-a-rather-long-name", 1, 1);
        let last = NodeConfig {
            cluster,
            number: MOST_NODES,
        };
        assert!(last.cable().len() <= 15, "{}", last.cable());
    }

    #[test]
    fn this_process_started_some_time() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert!(start_time(pid).is_some_and(|ticks| ticks > 0));
    }
}
