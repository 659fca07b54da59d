//! Switching nodes on and off.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use linux::namespace::{self, Kind, Namespace};
use linux::process::{self, Fork, Process};

use crate::cluster::{Cluster, Config, make_private_dir};
use crate::member::Member;
use crate::progress::{Message, Progress};
use crate::{init, network, root};

/// How long killed processes may take to be gone.
const DEATH: Duration = Duration::from_secs(30);
/// A log of more bytes is put aside when the node is switched on.
const LONG_LOG: u64 = 8 << 20;

/// Switches a node on: makes its cable, its control group and its process 1; the cluster's network must be there.
/// Returns the end on which the inside tells how it gets on. `listener` is the first node's: where the API listens on
/// this machine.
///
/// The process must have a single thread.
pub(crate) fn on(node: &Member, listener: Option<OwnedFd>) -> anyhow::Result<(Process, OwnedFd)> {
    make_private_dir(&node.path("run"))?;
    make_private_dir(&node.path("log"))?;
    let node_network = network::plug(&node.config)?;
    let started = start_init(node, listener, &node_network);
    let recorded = started.and_then(|(init, progress)| {
        let recorded = node.record_init(&init);
        if recorded.is_err() {
            init.kill()?;
        }
        recorded.map(|()| (init, progress))
    });
    if recorded.is_err() {
        // The first error is the one to tell.
        let _ = clean_host(node);
    }
    recorded
}

fn start_init(
    node: &Member,
    listener: Option<OwnedFd>,
    node_network: &Namespace,
) -> anyhow::Result<(Process, OwnedFd)> {
    let group = root::cgroup(&node.config)?;
    group.create()?;
    let (outside, inside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let host_network = Namespace::current(Kind::Network)?;
    let log = open_log(node)?;
    match process::fork(&[Kind::Pid, Kind::Mount, Kind::Uts, Kind::Ipc], None)? {
        Fork::Parent(init) => Ok((init, outside)),
        Fork::Child => {
            drop(outside);
            let entered = (|| {
                rustix::process::setsid()?;
                group.add_self()?;
                namespace::unshare(&[Kind::Cgroup])?;
                node_network.enter()?;
                root::enter(node)?;
                let null = OpenOptions::new().read(true).open("/dev/null")?;
                process::set_stdio(&null, 0)?;
                process::set_stdio(&log, 1)?;
                process::set_stdio(&log, 2)?;
                anyhow::Ok(())
            })();
            let error = match entered {
                Ok(()) => init::exec(
                    "init",
                    listener.as_ref().map(AsFd::as_fd),
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
fn open_log(node: &Member) -> anyhow::Result<File> {
    let log = node.path("log/node.log");
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

/// Switches a whole cluster off: its nodes and what they share. One that is off stays off.
pub(crate) fn cluster_off(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    for node in cluster.members(config) {
        off(&node)?;
    }
    network::remove(config)
}

/// Switches a node off, like a power cut: nothing of it is left running or on this machine's network. A node that is
/// off stays off.
pub(crate) fn off(node: &Member) -> anyhow::Result<()> {
    if let Some(init) = node.init() {
        // With process 1 the kernel kills every process of the node, and tells of its end only when all are gone.
        init.kill()?;
        if !init.wait_exit(Some(DEATH))? {
            let (name, seconds) = (node.config.name(), DEATH.as_secs());
            return Err(anyhow!(
                "the node {name} did not go within {seconds} seconds"
            ));
        }
    } else if !root::cgroup(&node.config)?.processes()?.is_empty() {
        // What ran under a process 1 that is gone is gone too: these belong to somebody else.
        return Err(anyhow!(
            "a cluster {} runs from another state directory: say which with --state-dir",
            node.config.cluster.name
        ));
    }
    clean_host(node)
}

fn clean_host(node: &Member) -> anyhow::Result<()> {
    let group = root::cgroup(&node.config)?;
    group.kill(DEATH)?;
    group.remove()?;
    remove_empty_parent(&group);
    network::unplug(&node.config)?;
    let run = node.path("run");
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
