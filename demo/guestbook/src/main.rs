//! The Guestbook on a cluster of this machine, from nothing: images from Debian's packages, the cluster, the manifests of
//! the tutorial as they stand there, a message posted and read back. `cargo xtask demo` builds what this needs and runs it.

mod deploy;
mod visit;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use demo_images::samples;

#[derive(Parser)]
#[command(about = "Runs the Guestbook on a cluster of this machine")]
struct Cli {
    /// The program `oxikube`.
    #[arg(long)]
    oxikube: PathBuf,
    /// The program `demo-app`, which becomes the front end's image.
    #[arg(long)]
    app: PathBuf,
    /// Name of the cluster.
    #[arg(long, default_value = "guestbook")]
    name: String,
    /// Delete the cluster afterwards; the exit code tells whether all went well.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = run(&cli);
    if let Err(error) = &result {
        eprintln!("the Guestbook does not run: {error:#}");
    }
    if cli.check {
        step("deleting the cluster");
        if let Err(error) = oxikube(&cli, &["delete"]) {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn step(what: &str) {
    println!("==> {what}");
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let began = Instant::now();
    step("making the images: redis, redis-slave, frontend");
    let archives = make_images(&cli.app)?;
    step("starting the cluster");
    oxikube(cli, &["start"])?;
    for archive in archives.iter() {
        oxikube(cli, &["image", "load", path(archive)?])?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let site = runtime.block_on(deploy::deploy(&format!("oxikube-{}", cli.name)))?;
    step(&format!("posting a message to {site} and reading it back"));
    visit::sign(&site)?;
    println!(
        "==> the Guestbook works, {:.1} s after the start\n",
        began.elapsed().as_secs_f32()
    );
    if !cli.check {
        tell(cli, &site);
    }
    Ok(())
}

fn tell(cli: &Cli, site: &str) {
    let (program, name) = (cli.oxikube.display(), &cli.name);
    println!(
        "Open {site} in a browser. To go on:\n\
         \x20 {program} kubectl --name {name} get pods,services\n\
         \x20 {program} kubectl --name {name} scale replicationcontroller frontend --replicas 5\n\
         \x20 {program} stop --name {name}     # power off; `start` brings it all back\n\
         \x20 {program} delete --name {name}   # remove every trace"
    );
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not text")
}

/// One archive an image, in a directory that goes with the value.
struct Archives {
    _directory: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Archives {
    fn iter(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter()
    }
}

fn make_images(app: &Path) -> anyhow::Result<Archives> {
    let directory = tempfile::tempdir()?;
    let images = [
        samples::redis_master()?,
        samples::redis_slave()?,
        samples::guestbook_frontend(app)?,
    ];
    let mut files = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let file = directory.path().join(format!("{index}.tar"));
        image.build()?.archive(std::fs::File::create(&file)?)?;
        files.push(file);
    }
    Ok(Archives {
        _directory: directory,
        files,
    })
}

/// Runs `oxikube COMMAND --name NAME`, its output shown as it comes.
fn oxikube(cli: &Cli, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(&cli.oxikube)
        .args(arguments)
        .args(["--name", &cli.name])
        .status();
    let status = status.with_context(|| format!("cannot run {}", cli.oxikube.display()))?;
    if !status.success() {
        bail!("`oxikube {}` failed", arguments.join(" "));
    }
    Ok(())
}
