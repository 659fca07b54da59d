//! The wrappers against the real kernel, as root; each test leaves nothing behind.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::{self, Hierarchies};
use crate::mount::{self, Attributes, Overlay};
use crate::namespace::{self, Kind, Namespace};
use crate::path::{self, Kind as PathKind};
use crate::process::Process;
use crate::socket;

#[test]
fn cgroup_versions_are_told_apart() {
    let v2 = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(
        cgroup::parse(v2),
        Some(Hierarchies::V2("/sys/fs/cgroup".into()))
    );
    let hybrid = "\
        30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 25 0:29 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
    let Some(Hierarchies::V1(mounts)) = cgroup::parse(hybrid) else {
        panic!("hybrid is version 1")
    };
    let mounts: Vec<_> = mounts
        .iter()
        .map(|(name, at)| format!("{name}={}", at.display()))
        .collect();
    assert_eq!(
        mounts,
        [
            "cpu=/sys/fs/cgroup/cpu,cpuacct",
            "cpuacct=/sys/fs/cgroup/cpu,cpuacct",
            "memory=/sys/fs/cgroup/memory"
        ]
    );
    assert_eq!(cgroup::parse("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
}

#[test]
fn a_cgroup_is_killed_whole_and_removed() {
    let hierarchies = cgroup::detect().unwrap();
    let group = hierarchies.group(&format!("oxikube-test-linux-{}", std::process::id()));
    group.child("inner").create().unwrap();
    // It starts children only once it is in the group, so that none is left outside.
    let shell = "read go; while :; do sleep 1000 & wait; done";
    let mut child = std::process::Command::new("sh")
        .args(["-c", shell])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    group
        .child("inner")
        .add(rustix::process::Pid::from_child(&child))
        .unwrap();
    let mut gate = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut gate, b"go\n").unwrap();
    group.kill(Duration::from_secs(10)).unwrap();
    child.wait().unwrap();
    assert!(group.processes().unwrap().is_empty());
    group.remove().unwrap();
    assert!(!group.exists());
    group.remove().unwrap();
}

#[test]
fn names_resolve_inside_the_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    std::fs::create_dir_all(root_path.join("real")).unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink("/real", root_path.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", root_path.join("escape")).unwrap();
    let root = path::open_dir(&root_path).unwrap();

    path::create_in_root(&root, Path::new("/absolute/a/b"), PathKind::Directory).unwrap();
    assert!(root_path.join("real/a/b").is_dir());
    path::create_in_root(&root, Path::new("/absolute/file"), PathKind::File).unwrap();
    assert!(root_path.join("real/file").is_file());

    assert!(
        path::open_in_root(&root, Path::new("escape"))
            .unwrap_err()
            .is_not_found()
    );
    path::open_in_root(&root, Path::new("../../..")).unwrap();
    assert!(path::open_beneath(&root, Path::new("../secret")).is_err());
    assert!(path::open_beneath(&root, Path::new("absolute/a")).is_err());
    assert!(path::open_in_root_no_links(&root, Path::new("absolute/a")).is_err());
    // Where a link leads to nothing, that is made inside.
    path::create_in_root(&root, Path::new("escape"), PathKind::File).unwrap();
    assert!(root_path.join("secret").is_file());
    let outside = dir.path().join("outside");
    std::os::unix::fs::symlink(&outside, root_path.join("far")).unwrap();
    path::create_in_root(&root, Path::new("far/deep"), PathKind::Directory).unwrap();
    assert!(!outside.exists());
    std::os::unix::fs::symlink("loop", root_path.join("loop")).unwrap();
    let endless = path::create_in_root(&root, Path::new("loop/x"), PathKind::File).unwrap_err();
    assert_eq!(endless.errno(), libc::ELOOP);
}

#[test]
fn a_detached_overlay_is_written_to_without_being_mounted_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let [low, lower, upper, work] = ["low", "lower", "upper", "work"].map(|name| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    });
    std::fs::write(low.join("a"), "low").unwrap();
    std::fs::write(lower.join("a"), "lower").unwrap();
    std::fs::write(low.join("b"), "low").unwrap();
    let layers = [lower, low];
    let overlay = Overlay {
        lower: &layers,
        upper: Some((&upper, &work)),
        volatile: false,
    };
    type Make = fn(&Overlay<'_>) -> crate::Result<std::os::fd::OwnedFd>;
    for (make, new) in [
        (mount::overlay as Make, "c"),
        (mount::overlay_by_path as Make, "d"),
    ] {
        let root = make(&overlay).unwrap();
        let mut text = String::new();
        let mut file = path::read_file_in_root(&root, Path::new("/a")).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "lower");
        path::create_in_root(&root, &Path::new("/").join(new), PathKind::File).unwrap();
        assert!(upper.join(new).is_file());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&dir.path().display().to_string()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn a_namespace_is_entered_by_one_thread_only() {
    let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let (handle, name) = std::thread::spawn(|| {
        namespace::unshare(&[Kind::Network]).unwrap();
        crate::interface::loopback_up().unwrap();
        let name = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        (Namespace::current(Kind::Network).unwrap(), name)
    })
    .join()
    .unwrap();
    let inside = namespace::run_in(&handle, || {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    });
    assert_eq!(inside.unwrap(), name);
    assert_eq!(
        std::fs::read_link("/proc/thread-self/ns/net").unwrap(),
        before
    );
    assert_ne!(name, before);
}

#[test]
fn forking_with_threads_is_refused() {
    let refused = std::thread::spawn(|| crate::process::fork(&[], None).unwrap_err()).join();
    assert!(refused.unwrap().source.to_string().contains("threads"));
}

#[test]
fn a_process_handle_signals_its_process_or_nobody() {
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let process = Process::open(rustix::process::Pid::from_child(&child)).unwrap();
    assert!(!process.wait_exit(Some(Duration::ZERO)).unwrap());
    process.kill().unwrap();
    assert!(process.wait_exit(None).unwrap());
    child.wait().unwrap();
    process.kill().unwrap();
}

#[test]
fn descriptors_travel_with_messages_over_long_paths() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    let listener = socket::listen(&deep.join("socket")).unwrap();
    assert!(socket::accept(&listener).unwrap().is_none());
    let client = socket::connect(&deep.join("socket")).unwrap();
    let server = socket::accept(&listener).unwrap().unwrap();
    let file = tempfile::tempfile().unwrap();
    socket::send(&client, b"hello", &[file.as_fd()]).unwrap();
    let message = socket::receive(&server).unwrap().unwrap();
    assert_eq!(
        (message.bytes.as_slice(), message.descriptors.len()),
        (&b"hello"[..], 1)
    );
    let none = socket::receive(&server).unwrap_err();
    assert_eq!(none.source.kind(), std::io::ErrorKind::WouldBlock);
    drop(client);
    assert!(socket::receive(&server).unwrap().is_none());
}

#[test]
fn a_restricted_mount_cannot_be_written() {
    let size = [("size", Some("64k"))];
    let mount = mount::new_filesystem("tmpfs", &size, Attributes::INERT).unwrap();
    path::create_in_root(&mount, Path::new("before"), PathKind::File).unwrap();
    mount::restrict(&mount, Attributes::INERT.read_only(), true).unwrap();
    let refused = path::create_in_root(&mount, Path::new("after"), PathKind::File).unwrap_err();
    assert_eq!(refused.errno(), libc::EROFS);
    assert!(mount::attributes_of(&mount).unwrap().read_only);
    assert!(!mount::is_procfs(&mount).unwrap());
}

#[test]
fn a_device_filter_of_version_2_holds() {
    use crate::device_filter::{Rule, restrict};
    use std::process::Command;
    // Hybrid machines have a version 2 tree beside; without one there is nothing to try it on.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let tree = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(tree) = tree.and_then(|line| line.split(' ').nth(4)) else {
        return;
    };
    let group =
        Hierarchies::V2(tree.into()).group(&format!("oxikube-test-dev-{}", std::process::id()));
    group.create().unwrap();
    let null = Rule {
        block: false,
        major: Some(1),
        minor: Some(3),
        read: true,
        write: true,
        mknod: false,
    };
    let handle = group.open().unwrap().unwrap();
    restrict(
        &handle,
        &[
            null,
            Rule {
                major: Some(5),
                minor: None,
                ..null
            },
        ],
    )
    .unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs; cat /dev/null && echo x > /dev/null && echo null;
         head -c1 /dev/zero > /dev/null 2>&1 || echo no zero",
        group.first_dir().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    drop(handle);
    group.remove().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "null\nno zero\n");
}
