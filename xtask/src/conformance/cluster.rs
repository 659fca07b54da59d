//! The cluster that the suite runs against: made for it, gone after it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::build;

/// A cluster of its own state directory and kubeconfig; deleted when dropped.
pub(super) struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    kept: bool,
}

/// Its name.
const NAME: &str = "conformance";

impl Cluster {
    /// Starts one; a left-over of an earlier run is deleted first.
    pub(super) fn start(program: &Path, nodes: u8) -> anyhow::Result<Self> {
        let directory = build::target().join("conformance-cluster");
        std::fs::create_dir_all(&directory)?;
        let cluster = Self {
            program: program.to_owned(),
            directory: directory.canonicalize()?,
            kept: false,
        };
        cluster
            .delete()
            .context("an earlier cluster is in the way")?;
        cluster.oxikube(&["start", "--name", NAME, "--nodes", &nodes.to_string()])?;
        Ok(cluster)
    }

    /// Where clients learn of it.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Loads an archive of images on its nodes.
    pub(super) fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the archive's path is not text")?;
        self.oxikube(&["image", "--name", NAME, "load", archive])
    }

    /// Leaves it there; the result is the command that deletes it.
    pub(super) fn keep(mut self) -> String {
        self.kept = true;
        let state = self.directory.join("state");
        format!(
            "KUBECONFIG={} kubectl get nodes; {} --state-dir {} delete --name {NAME}",
            self.kubeconfig().display(),
            self.program.display(),
            state.display()
        )
    }

    fn delete(&self) -> anyhow::Result<()> {
        match self.directory.join("state").join(NAME).exists() {
            true => self.oxikube(&["delete", "--name", NAME]),
            false => Ok(()),
        }
    }

    fn oxikube(&self, arguments: &[&str]) -> anyhow::Result<()> {
        crate::run(
            Command::new(&self.program)
                .arg("--state-dir")
                .arg(self.directory.join("state"))
                .args(arguments)
                .env("KUBECONFIG", self.kubeconfig()),
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.delete() {
            eprintln!("the cluster could not be deleted: {error:#}");
        }
    }
}
