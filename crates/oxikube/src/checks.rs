//! What a machine must have, looked at before anything is made.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::Path;

use anyhow::{Context, bail};
use linux::cgroup;
use linux::mount::{self, Attributes};
use linux::namespace::{self, Kind};

/// Controllers without which pods cannot be limited or cleaned up.
const CONTROLLERS_V1: [&str; 5] = ["cpu", "cpuset", "devices", "memory", "pids"];
const CONTROLLERS_V2: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
const ENODEV: i32 = 19;

/// Fails, in words that say what to do, unless this process may make clusters.
pub(crate) fn root() -> anyhow::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => bail!("oxikube needs root to make namespaces and networks: run it with sudo"),
    }
}

/// Fails, naming what is missing, unless the kernel can run a cluster.
pub(crate) fn kernel() -> anyhow::Result<()> {
    for name in NAMESPACES {
        if !Path::new("/proc/self/ns").join(name).exists() {
            bail!("this kernel has no {name} namespaces: use one built with CONFIG_NAMESPACES");
        }
    }
    cgroups()?;
    overlay()?;
    network()
}

fn cgroups() -> anyhow::Result<()> {
    let hierarchies = cgroup::detect()
        .context("no control groups: mount /sys/fs/cgroup as the distribution does at boot")?;
    let wanted: &[&str] = if hierarchies.is_v2() {
        &CONTROLLERS_V2
    } else {
        &CONTROLLERS_V1
    };
    let has = |controller: &str| match hierarchies.is_v2() {
        false => hierarchies.mount_of(controller).is_some(),
        true => hierarchies.mount_of(controller).is_some_and(|mount| {
            let offered = std::fs::read_to_string(mount.join("cgroup.controllers"));
            offered.is_ok_and(|o| o.split_whitespace().any(|c| c == controller))
        }),
    };
    let missing: Vec<&str> = wanted.iter().copied().filter(|c| !has(c)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => bail!(
            "the cgroup controllers {} are missing: enable them on the kernel's command line \
             (cgroup_enable=...) or mount them",
            missing.join(", ")
        ),
    }
}

/// Asking for an overlay without layers is refused in one way by a kernel that has overlays and in another by one that
/// has none.
fn overlay() -> anyhow::Result<()> {
    match mount::new_filesystem("overlay", &[], Attributes::default()) {
        Err(error) if error.errno() == ENODEV => {
            bail!("this kernel has no overlayfs: load the module `overlay`")
        }
        _ => Ok(()),
    }
}

/// Tries a bridge, a veth pair and an nftables table.
fn network() -> anyhow::Result<()> {
    try_out(crate::network::try_devices)
}

/// Fails unless the kernel can carry packets between nodes itself.
pub(crate) fn vxlan() -> anyhow::Result<()> {
    try_out(crate::network::try_vxlan)
}

/// Tries something in a network namespace that is gone afterwards.
fn try_out(what: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let tried = std::thread::spawn(move || {
        namespace::unshare(&[Kind::Network]).context("this kernel makes no network namespaces")?;
        what()
    });
    match tried.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A socket that listens on the machine's loopback: on the port asked for, or on the first free one from `first` on.
pub(crate) fn listen(asked: Option<u16>, first: u16) -> anyhow::Result<TcpListener> {
    let bind = |port| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    if let Some(port) = asked {
        return bind(port).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => anyhow::anyhow!(
                "port {port} on 127.0.0.1 is taken by another program: stop it, or choose another \
                 port with --api-port when the cluster is made"
            ),
            _ => anyhow::Error::new(error).context(format!("cannot listen on port {port}")),
        });
    }
    for port in first..first.saturating_add(1000) {
        match bind(port) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            other => return other.with_context(|| format!("cannot listen on port {port}")),
        }
    }
    bail!("no port is free on 127.0.0.1 from {first} on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said() {
        let taken = listen(None, 27_443).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let error = listen(Some(port), 0).expect_err("taken").to_string();
        assert!(
            error.contains(&format!("port {port} on 127.0.0.1 is taken")),
            "{error}"
        );
        let next = listen(None, port).expect("the next one");
        assert!(next.local_addr().expect("an address").port() > port);
    }
}
