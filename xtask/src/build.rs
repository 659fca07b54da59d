//! Building with cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// The root of the work tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the work tree")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `cargo`, in the work tree.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds these packages for use; the result is the directory of their programs.
pub(crate) fn release(packages: &[&str]) -> anyhow::Result<PathBuf> {
    build(packages, "release")
}

/// Builds these packages for tests; the result is the directory of their programs.
pub(crate) fn debug(packages: &[&str]) -> anyhow::Result<PathBuf> {
    build(packages, "dev")
}

fn build(packages: &[&str], profile: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(target().join(if profile == "dev" { "debug" } else { profile }))
}
