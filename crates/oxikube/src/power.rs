//! Switching a node on and off.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use linux::namespace::{self, Kind, Namespace};
use linux::process::{self, Fork, Process};

use crate::cluster::{Cluster, Config, make_private_dir};
use crate::progress::{Message, Progress};
use crate::{init, network, root};

/// How long killed processes may take to be gone.
const DEATH: Duration = Duration::from_secs(30);
/// A log of more bytes is put aside when the node is switched on.
const LONG_LOG: u64 = 8 << 20;

/// Switches the node on: makes its network, its control group and its process 1. Returns the end on which the inside
/// tells how it gets on.
///
/// The process must have a single thread.
pub(crate) fn on(
    cluster: &Cluster,
    config: &Config,
    listener: OwnedFd,
) -> anyhow::Result<(Process, OwnedFd)> {
    make_private_dir(&cluster.path("run"))?;
    make_private_dir(&cluster.path("log"))?;
    let node_network = network::create(config)?;
    let started = start_init(cluster, config, listener, &node_network);
    let recorded = started.and_then(|(init, progress)| {
        let recorded = cluster.record_init(&init);
        if recorded.is_err() {
            init.kill()?;
        }
        recorded.map(|()| (init, progress))
    });
    if recorded.is_err() {
        // The first error is the one to tell.
        let _ = clean_host(cluster, config);
    }
    recorded
}

fn start_init(
    cluster: &Cluster,
    config: &Config,
    listener: OwnedFd,
    node_network: &Namespace,
) -> anyhow::Result<(Process, OwnedFd)> {
    let group = root::cgroup(config)?;
    group.create()?;
    let (outside, inside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let host_network = Namespace::current(Kind::Network)?;
    let log = open_log(cluster)?;
    match process::fork(&[Kind::Pid, Kind::Mount, Kind::Uts, Kind::Ipc], None)? {
        Fork::Parent(init) => Ok((init, outside)),
        Fork::Child => {
            drop(outside);
            let entered = (|| {
                rustix::process::setsid()?;
                group.add_self()?;
                namespace::unshare(&[Kind::Cgroup])?;
                node_network.enter()?;
                root::enter(cluster, config)?;
                let null = OpenOptions::new().read(true).open("/dev/null")?;
                process::set_stdio(&null, 0)?;
                process::set_stdio(&log, 1)?;
                process::set_stdio(&log, 2)?;
                anyhow::Ok(())
            })();
            let error = match entered {
                Ok(()) => init::exec(
                    "init",
                    listener.as_fd(),
                    host_network.as_fd(),
                    Some(inside.as_fd()),
                ),
                Err(error) => error,
            };
            let message = Message::Failed(format!("cannot make the node: {error:#}"));
            Progress::new(Some(inside)).tell(&message);
            process::exit_now(1)
        }
    }
}

/// Opens the node's log; one that has grown long makes room for a new one.
fn open_log(cluster: &Cluster) -> anyhow::Result<File> {
    let log = cluster.path("log/node.log");
    let what = || format!("cannot open the log {}", log.display());
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LONG_LOG) {
        fs::rename(&log, log.with_extension("log.1")).with_context(what)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .with_context(what)
}

/// Switches the node off, like a power cut: nothing of it is left running or on this machine's network. A cluster that
/// is off stays off.
pub(crate) fn off(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    if let Some(init) = cluster.init() {
        // With process 1 the kernel kills every process of the node, and tells of its end only when all are gone.
        init.kill()?;
        if !init.wait_exit(Some(DEATH))? {
            let seconds = DEATH.as_secs();
            return Err(anyhow!("the node did not go within {seconds} seconds"));
        }
    } else if !root::cgroup(config)?.processes()?.is_empty() {
        // What ran under a process 1 that is gone is gone too: these belong to somebody else.
        return Err(anyhow!(
            "a cluster {} runs from another state directory: say which with --state-dir",
            config.name
        ));
    }
    clean_host(cluster, config)
}

fn clean_host(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    let group = root::cgroup(config)?;
    group.kill(DEATH)?;
    group.remove()?;
    remove_empty_parent(&group);
    network::remove(config)?;
    let run = cluster.path("run");
    match fs::remove_dir_all(&run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", run.display()))
        }
        _ => Ok(()),
    }
}

/// The group above is shared by all clusters: it goes with the last one.
fn remove_empty_parent(group: &linux::cgroup::Cgroup) {
    let Ok(hierarchies) = linux::cgroup::detect() else {
        return;
    };
    let parent = group.path().split('/').next().unwrap_or_default();
    for mount in hierarchies.mounts() {
        // It fails while another cluster's group is in it, which is what is wanted.
        let _ = fs::remove_dir(mount.join(parent));
    }
}
