//! The same on cgroup version 2: on a hybrid machine these tests run once more where only its
//! version 2 tree is mounted. It has no controllers there, so what limits and counts is left out.

/// Tests that touch everything that differs: processes joined, killed and found, devices, the view
/// from inside.
const AGAIN: &[&str] = &[
    "pods::",
    "containers::the_file_system_is_the_containers_own",
    "containers::containers_of_a_pod_can_share_their_processes",
    "containers::a_privileged_container_has_the_hosts_devices",
    "lessons::runc_2022_29162",
];

#[test]
fn the_rest_is_the_same_on_version_2() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchies = linux::cgroup::parse(&mounts);
    let both =
        mounts.contains(" - cgroup2 ") && !hierarchies.as_ref().is_some_and(|all| all.is_v2());
    let Some(first) = hierarchies.filter(|_| both) else {
        return;
    };
    let mut script = String::from("mount --make-rprivate / && ");
    for mount in first.mounts() {
        script += &format!("umount {} && ", mount.display());
    }
    script += "exec \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(AGAIN)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("a_container_runs_logs_and_ends ... ok"),
        "{said}"
    );
}
