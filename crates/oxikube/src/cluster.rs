//! A cluster on disk: where its files are, what it is called on the host, who it is.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use overlay::Backend;
use serde::{Deserialize, Serialize};

/// Where clusters live unless said otherwise.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/oxikube";
/// The cluster meant when none is named.
pub(crate) const DEFAULT_NAME: &str = "default";
/// A directory that every machine that can run clusters has, and that nobody else locks.
const MACHINE_LOCK: &str = "/sys/fs/cgroup";
/// What the names of all clusters' interfaces on the machine begin with.
pub(crate) const INTERFACES: &str = "oxk";
/// Version of the layout on disk.
const LAYOUT: u32 = 1;
/// Pods' addresses, inside every cluster the same.
pub(crate) const POD_CIDR: &str = "10.244.0.0/16";
/// Services' addresses, inside every cluster the same.
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The address of the service `kubernetes`.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The address of the cluster DNS.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The domain of services.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";
/// The port of the API on the node.
pub(crate) const API_PORT: u16 = 6443;

/// All clusters of this machine.
pub(crate) struct Clusters {
    dir: PathBuf,
}

impl Clusters {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// One cluster, existing or not.
    pub(crate) fn cluster(&self, name: &str) -> anyhow::Result<Cluster> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = name.starts_with('-') || name.ends_with('-');
        if name.is_empty() || name.len() > 40 || edges || !name.chars().all(allowed) {
            bail!(
                "{name:?} cannot be the name of a cluster: up to 40 lower-case letters, digits and \
                 dashes, no dash at the ends"
            );
        }
        Ok(Cluster {
            name: name.to_owned(),
            root: self.dir.clone(),
            dir: self.dir.join(name),
        })
    }

    /// Every cluster that exists, by name.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Cluster>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", self.dir.display()));
            }
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Cluster> = names
            .filter_map(|name| self.cluster(&name).ok())
            .filter(Cluster::exists)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

/// What a cluster is: written once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    layout: u32,
    /// Name of the cluster.
    pub(crate) name: String,
    /// The third number of its subnet.
    pub(crate) subnet: u8,
    /// Port of the API on the machine's loopback.
    pub(crate) api_port: u16,
    /// How packets travel between nodes.
    #[serde(default)]
    pub(crate) network_backend: Backend,
    /// How long a node may be silent.
    #[serde(default = "node_grace_seconds")]
    pub(crate) node_grace_seconds: u64,
    /// Scheduled backups of the cluster's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshots: Option<Snapshots>,
    /// Secrets are encrypted in the store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secrets_encryption: bool,
}

/// When backups are taken, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Snapshots {
    /// The time from one to the next.
    pub(crate) every_seconds: u64,
    /// The oldest ones beyond so many are removed.
    pub(crate) keep: usize,
}

/// Shorter than where a network may be slow (decision 6).
fn node_grace_seconds() -> u64 {
    40
}

impl Config {
    pub(crate) fn new(name: &str, subnet: u8, api_port: u16) -> Self {
        Self {
            layout: LAYOUT,
            name: name.to_owned(),
            subnet,
            api_port,
            network_backend: Backend::default(),
            node_grace_seconds: node_grace_seconds(),
            snapshots: None,
            secrets_encryption: false,
        }
    }

    /// The machine's address on the cluster's bridge.
    pub(crate) fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.subnet, 1)
    }

    /// The network of bridge and node.
    pub(crate) fn network(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.subnet, 0)
    }

    /// Addresses for load balancers: the upper end of the network, where no node is.
    pub(crate) fn load_balancers(&self) -> RangeInclusive<Ipv4Addr> {
        let first = crate::member::MOST_NODES + 2;
        Ipv4Addr::new(172, 30, self.subnet, first)..=Ipv4Addr::new(172, 30, self.subnet, 254)
    }

    /// The bridge on the machine. Its name follows from the cluster's alone, so that it can be removed when nothing else
    /// is known any more; an interface's name has 15 characters at most, hence a digest.
    pub(crate) fn bridge(&self) -> String {
        format!("{INTERFACES}{:08x}", digest(&self.name))
    }

    /// The nftables table on the machine.
    pub(crate) fn table(&self) -> String {
        format!("oxikube-{}", self.name)
    }

    /// The context in kubeconfig files.
    pub(crate) fn context(&self) -> String {
        format!("oxikube-{}", self.name)
    }

    /// Where the API is reached from this machine.
    pub(crate) fn api_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.api_port)
    }

    /// The same as a URL.
    pub(crate) fn api_url(&self) -> String {
        format!("https://{}", self.api_address())
    }
}

/// FNV-1a: short, and the same for ever.
fn digest(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

/// A cluster by name; whether it exists is another question.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// The directory of all clusters.
    root: PathBuf,
    /// The directory of this one.
    pub(crate) dir: PathBuf,
}

impl Cluster {
    fn config_file(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// A file or directory of the cluster.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The cluster was made and not deleted.
    pub(crate) fn exists(&self) -> bool {
        self.config_file().exists()
    }

    /// What the cluster is.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        read_config(&self.config_file()).with_context(|| {
            let name = &self.name;
            format!(
                "the data of cluster {name} in {} is damaged; restore it, or remove it with \
                 `oxikube delete --name {name}`",
                self.dir.display()
            )
        })
    }

    /// Makes the directories and the record of a new cluster.
    pub(crate) fn create(&self, config: &Config) -> anyhow::Result<()> {
        make_private_dir(&self.root)?;
        make_private_dir(&self.dir)?;
        let text = serde_json::to_vec_pretty(config)?;
        write_private(&self.config_file(), &text)
    }

    /// Takes the lock under which clusters are made and unmade on this machine, whatever directory they live in: names
    /// of interfaces and numbers of subnets are the machine's. It is released when dropped.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        make_private_dir(&self.root)?;
        let dir =
            File::open(MACHINE_LOCK).with_context(|| format!("cannot open {MACHINE_LOCK}"))?;
        rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive)
            .context("cannot take the lock of all clusters")?;
        Ok(dir)
    }
}

/// Reads the record of a cluster.
pub(crate) fn read_config(file: &Path) -> anyhow::Result<Config> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let config: Config =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", file.display()))?;
    if config.layout != LAYOUT {
        bail!(
            "{} has layout {}, this oxikube knows {LAYOUT}",
            file.display(),
            config.layout
        );
    }
    Ok(config)
}

/// Makes a directory (with its parents) that only root may read.
pub(crate) fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Writes a file that only its owner may read, as a whole or not at all.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let what = || format!("cannot write {}", file.display());
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        let clusters = Clusters::new("/nowhere".into());
        for name in ["default", "a", "ci-7"] {
            assert!(clusters.cluster(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a/b", "..", "a.b", &"x".repeat(41)] {
            assert!(clusters.cluster(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_cluster_is_what_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let clusters = Clusters::new(dir.path().join("state"));
        let cluster = clusters.cluster("c").expect("a name");
        assert!(!cluster.exists() && clusters.all().expect("a list").is_empty());
        let config = Config::new("c", 7, 6443);
        cluster.create(&config).expect("made");
        assert_eq!(cluster.config().expect("read"), config);
        assert_eq!(clusters.all().expect("a list").len(), 1);
    }

    #[test]
    fn a_bridge_is_named_after_its_cluster() {
        let config = Config::new("a-cluster-with-a-rather-long-name", 1, 1);
        assert_eq!(config.bridge(), Config::new(&config.name, 2, 2).bridge());
        assert_ne!(config.bridge(), Config::new("default", 1, 1).bridge());
    }

    #[test]
    fn damage_is_said_and_how_to_go_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = Clusters::new(dir.path().to_owned())
            .cluster("c")
            .expect("a name");
        cluster.create(&Config::new("c", 7, 6443)).expect("made");
        fs::write(cluster.path("cluster.json"), "{").expect("damaged");
        let error = format!("{:#}", cluster.config().expect_err("damage"));
        assert!(
            error.contains("is damaged") && error.contains("oxikube delete --name c"),
            "{error}"
        );
    }
}
