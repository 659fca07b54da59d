//! A cluster to measure: made, used, removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use kube::Client;

/// One cluster by name, with state and kubeconfig of its own.
pub(crate) struct Cluster {
    oxikube: PathBuf,
    name: String,
    directory: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn new(oxikube: &Path, name: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self {
            oxikube: oxikube.to_owned(),
            name: name.to_owned(),
            directory,
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The program `oxikube`.
    pub(crate) fn program(&self) -> &Path {
        &self.oxikube
    }

    /// Where the cluster's data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Runs `oxikube ARGUMENTS --name NAME` and tells how many seconds it took.
    pub(crate) fn oxikube(&self, arguments: &[&str]) -> anyhow::Result<f64> {
        let began = Instant::now();
        let output = Command::new(&self.oxikube)
            .args(arguments)
            .args(["--name", &self.name])
            .env("OXIKUBE_STATE_DIR", self.data())
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.oxikube.display()))?;
        let seconds = began.elapsed().as_secs_f64();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`oxikube {}` failed: {}", arguments.join(" "), said.trim());
        }
        Ok(seconds)
    }

    /// A client with the administrator's identity.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let context = format!("oxikube-{}", self.name);
        Ok(client::connect::from_kubeconfig(&self.kubeconfig(), Some(&context)).await?)
    }

    /// The processes of the cluster: those in the control groups of its nodes, or below them.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let group = format!("/oxikube/{}", self.name);
        // The other nodes' groups are `NAME.2`, `NAME.3` and so on.
        let is_ours = |line: &str| {
            let mut ends = line
                .match_indices(&group)
                .map(|(at, _)| &line[at + group.len()..]);
            ends.any(|end| end.is_empty() || end.starts_with(['/', '.']))
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end while it is looked at.
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if groups.lines().any(is_ours) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failure to clean up is told, but the figures stand.
        if let Err(error) = self.oxikube(&["delete"]) {
            eprintln!("{error:#}");
        }
    }
}
