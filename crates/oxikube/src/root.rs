//! What a node sees as its machine: programs of the host, read-only; everything else its own.
//!
//! The node's root is one of its directories. A hostPath volume is therefore a path of the node and not of the
//! machine, side by side clusters do not meet, and `delete` removes all that a node ever wrote.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;
use linux::cgroup::{self, Cgroup, Hierarchies};
use linux::mount::{self, Attributes, Propagation};
use linux::path::open_dir;

use crate::member::{Member, NodeConfig};

/// Where the running program is, inside.
pub(crate) const PROGRAM: &str = "/opt/oxikube/oxikube";
/// Where the node's directory is, inside.
pub(crate) const STATE: &str = "/var/lib/oxikube";
/// Sockets and the like, inside; `run` of the node's directory outside.
pub(crate) const RUN: &str = "/run/oxikube";

const PROGRAM_DIRS: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
const OWN_DIRS: [&str; 14] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "opt/oxikube",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var/lib/oxikube",
    "var/log",
    "var/tmp",
];
/// Trust in registries comes from the host.
const SHARED_ETC: [&str; 4] = ["ssl", "pki", "ca-certificates", "localtime"];

/// Replaces the calling process's view of the machine by the node's.
///
/// The process must be process 1 of new PID, mount, UTS, IPC and cgroup namespaces, and in the node's network namespace.
pub(crate) fn enter(node: &Member) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let hierarchies = cgroup::detect()?;
    mount::set_root_propagation(Propagation::Private)?;
    let root = node.path("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let own = mount::clone_tree(open_dir(Path::new("/"))?, &root, false)?;
    mount::attach_at(&own, &root)?;
    for dir in OWN_DIRS {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    host_programs(&root)?;
    etc(&root, &node.config)?;
    devices(&root)?;
    attach(
        mount::new_filesystem("proc", &[], hardened())?,
        &root.join("proc"),
    )?;
    attach(
        mount::new_filesystem("sysfs", &[], hardened())?,
        &root.join("sys"),
    )?;
    control_groups(&root, &hierarchies)?;
    own_files(&root, node, &program)?;
    mount::change_root(&own)?;
    // Volumes with bidirectional propagation need a shared tree; it is shared inside the node only.
    mount::set_root_propagation(Propagation::Shared)?;
    linux::namespace::set_hostname(&node.config.name())?;
    Ok(())
}

fn hardened() -> Attributes {
    Attributes {
        no_suid: true,
        no_dev: true,
        no_exec: true,
        ..Attributes::default()
    }
}

fn attach(mount: impl std::os::fd::AsFd, at: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
    Ok(mount::attach_at(mount, at)?)
}

/// Binds a file or directory of the host.
fn bind(host: &Path, at: &Path, read_only: bool) -> anyhow::Result<()> {
    let copy = mount::clone_tree(open_dir(Path::new("/"))?, host, read_only)?;
    if read_only {
        mount::restrict(&copy, Attributes::default().read_only(), true)?;
    }
    Ok(mount::attach_at(&copy, at)?)
}

fn host_programs(root: &Path) -> anyhow::Result<()> {
    for dir in PROGRAM_DIRS {
        let (host, here) = (Path::new("/").join(dir), root.join(dir));
        let Ok(metadata) = fs::symlink_metadata(&host) else {
            continue;
        };
        if metadata.is_symlink() {
            if fs::symlink_metadata(&here).is_err() {
                symlink(fs::read_link(&host)?, &here)?;
            }
        } else if metadata.is_dir() {
            fs::create_dir_all(&here)?;
            bind(&host, &here, true)?;
        }
    }
    Ok(())
}

fn etc(root: &Path, config: &NodeConfig) -> anyhow::Result<()> {
    let node = config.name();
    let address = config.address();
    let files = [
        ("hostname", format!("{node}\n")),
        (
            "hosts",
            format!("127.0.0.1\tlocalhost\n{address}\t{node}\n"),
        ),
        ("resolv.conf", resolv_conf()),
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n".into(),
        ),
        ("group", "root:x:0:\nnogroup:x:65534:\n".into()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".into(),
        ),
    ];
    for (name, text) in files {
        let file = root.join("etc").join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for name in SHARED_ETC {
        let (host, here) = (Path::new("/etc").join(name), root.join("etc").join(name));
        // What is a link is followed: its target is among the programs or here.
        let Ok(metadata) = fs::metadata(&host) else {
            continue;
        };
        if metadata.is_dir() {
            fs::create_dir_all(&here)?;
        } else {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&here)?;
        }
        bind(&fs::canonicalize(&host)?, &here, true)?;
    }
    Ok(())
}

/// The machine's name servers, without those that only the machine itself can reach.
fn resolv_conf() -> String {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts
        .map(|text| reachable(&text))
        .find(|text| text.contains("nameserver"))
        .unwrap_or_default()
}

fn reachable(resolv_conf: &str) -> String {
    let local = |line: &&str| {
        let server = line.strip_prefix("nameserver").map(str::trim);
        server.is_some_and(|server| server.starts_with("127.") || server == "::1")
    };
    let kept = resolv_conf
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    kept.filter(|line| !local(line) && !line.starts_with(['#', ';']))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn devices(root: &Path) -> anyhow::Result<()> {
    let dev = root.join("dev");
    bind(Path::new("/dev"), &dev, false)?;
    let no_suid = Attributes {
        no_suid: true,
        no_exec: true,
        ..Attributes::default()
    };
    let terminals = [
        ("newinstance", None),
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
        ("gid", Some("5")),
    ];
    attach(
        mount::new_filesystem("devpts", &terminals, no_suid)?,
        &dev.join("pts"),
    )?;
    let shared = [("mode", Some("1777"))];
    attach(
        mount::new_filesystem("tmpfs", &shared, hardened())?,
        &dev.join("shm"),
    )
}

/// The control groups as they look from the node's own: a fresh mount of each hierarchy.
fn control_groups(root: &Path, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    let at = root.join("sys/fs/cgroup");
    match hierarchies {
        Hierarchies::V2(_) => {
            attach(mount::new_filesystem("cgroup2", &[], hardened())?, &at)?;
        }
        Hierarchies::V1(controllers) => {
            let mode = [("mode", Some("0755"))];
            attach(mount::new_filesystem("tmpfs", &mode, hardened())?, &at)?;
            for point in hierarchies.mounts() {
                let options: Vec<(&str, Option<&str>)> = controllers
                    .iter()
                    .filter(|(_, mounted)| *mounted == point)
                    .map(|(controller, _)| (controller.as_str(), None))
                    .collect();
                let name = point.file_name().context("a control group at /")?;
                let tree = mount::new_filesystem("cgroup", &options, hardened())?;
                attach(tree, &at.join(name))?;
            }
        }
    }
    Ok(())
}

fn own_files(root: &Path, node: &Member, program: &Path) -> anyhow::Result<()> {
    let mode = [("mode", Some("0755"))];
    let no_suid = Attributes {
        no_suid: true,
        no_dev: true,
        ..Attributes::default()
    };
    attach(
        mount::new_filesystem("tmpfs", &mode, no_suid)?,
        &root.join("run"),
    )?;
    let var_run = root.join("var/run");
    if fs::symlink_metadata(&var_run).is_err() {
        symlink("/run", &var_run)?;
    }
    bind(&node.dir, &inside(root, STATE), false)?;
    fs::create_dir_all(inside(root, RUN))?;
    bind(&node.path("run"), &inside(root, RUN), false)?;
    let at = inside(root, PROGRAM);
    fs::OpenOptions::new().create(true).append(true).open(&at)?;
    // Read-only, so that nothing in the node can change the program that runs it (CVE-2019-5736).
    bind(program, &at, true)
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The control group of a whole node.
pub(crate) fn cgroup(config: &NodeConfig) -> anyhow::Result<Cgroup> {
    Ok(cgroup::detect()?.group(&config.cgroup()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reachable_name_servers_are_kept() {
        let text = "# comment\nnameserver 127.0.0.53\nsearch lan\n\nnameserver 192.0.2.53\noptions edns0\n";
        assert_eq!(
            reachable(text),
            "search lan\nnameserver 192.0.2.53\noptions edns0\n"
        );
    }
}
