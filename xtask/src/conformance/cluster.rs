//! The cluster that the suite runs against: made for it, gone after it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::interrupt::Interrupts;

/// A cluster of its own state directory and kubeconfig; deleted when dropped.
pub(super) struct Cluster {
    program: PathBuf,
    name: String,
    directory: PathBuf,
    interrupts: Interrupts,
    kept: bool,
}

impl Cluster {
    /// Starts one of this name in this directory.
    pub(super) fn start(
        program: &Path,
        name: &str,
        directory: &Path,
        nodes: u8,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // From here on it is deleted, however far its start comes.
        let cluster = Self {
            program: program.to_owned(),
            name: name.to_owned(),
            directory: directory.canonicalize()?,
            interrupts: interrupts.clone(),
            kept: false,
        };
        let nodes = nodes.to_string();
        cluster.oxikube(&["start", "--name", name, "--nodes", &nodes])?;
        Ok(cluster)
    }

    /// Where clients learn of it.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Loads an archive of images on its nodes.
    pub(super) fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the archive's path is not text")?;
        self.oxikube(&["image", "--name", &self.name, "load", archive])
    }

    /// Leaves it there; the result is the command that deletes it.
    pub(super) fn keep(mut self) -> String {
        self.kept = true;
        let state = self.directory.join("state");
        format!(
            "KUBECONFIG={} kubectl get nodes; {} --state-dir {} delete --name {}",
            self.kubeconfig().display(),
            self.program.display(),
            state.display(),
            self.name
        )
    }

    fn delete(&self) -> anyhow::Result<()> {
        let state = self.directory.join("state");
        if state.join(&self.name).exists() {
            let mut command = Command::new(&self.program);
            command.arg("--state-dir").arg(state);
            command.args(["delete", "--name", &self.name]);
            command.env("KUBECONFIG", self.kubeconfig());
            // Ctrl-C is not for it.
            crate::run(command.process_group(0))?;
        }
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }

    fn oxikube(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("--state-dir")
            .arg(self.directory.join("state"))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig());
        match self.interrupts.run(&mut command)? {
            status if status.success() => Ok(()),
            status => bail!("`oxikube {}` ended with {status}", arguments.join(" ")),
        }
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
