//! Pods that files of a node name, and the health of the control plane's parts.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Namespace};

const FILE: &str = "/etc/kubernetes/manifests/web.yaml";

fn manifest(namespace: &str, says: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: {namespace}, labels: {{app: web}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: busybox\n    \
         imagePullPolicy: IfNotPresent\n    command: [sh, -c, 'echo {says}; exec sleep 10407']\n"
    )
}

/// Writes the file as an editor does: a new one in the place of the old.
fn write(cluster: &Cluster, text: &str) {
    let script = format!(
        "mkdir -p /etc/kubernetes/manifests; cat > /tmp/web <<'END'\n{text}END\nmv /tmp/web {FILE}"
    );
    shell(cluster, &script);
}

fn shell(cluster: &Cluster, script: &str) -> String {
    cluster
        .oxikube(&["node", "shell", "--", "sh", "-c", script])
        .ok()
}

/// Waits until kubectl says something that fits.
#[track_caller]
fn until(space: &Namespace, arguments: &[&str], fits: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let said = space.kubectl(arguments);
        if fits(&said.stdout) {
            return said.stdout;
        }
        let told = format!("{arguments:?}: {}{}", said.stdout, said.stderr);
        assert!(began.elapsed() < Duration::from_secs(60), "{told}");
        // Another process is asked; this is how often, not how long.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_file_is_a_pod_for_as_long_as_it_is_there() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("static", 36);
    let node = cluster
        .kubectl(
            36,
            &["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"],
            "",
        )
        .ok();
    let mirror = format!("web-{node}");
    write(&cluster, &manifest(space.name(), "first"));
    let state = [
        "get",
        "pod",
        &mirror,
        "-o",
        "jsonpath={.status.phase} {.status.conditions[?(@.type==\"Ready\")].status} {.metadata.uid} \
         {.status.containerStatuses[0].containerID} {.metadata.annotations.kubernetes\\.io/config\\.source} \
         {.metadata.ownerReferences[0].kind}",
    ];
    let first = until(&space, &state, |said| said.starts_with("Running True "));
    assert!(first.ends_with(" file Node"), "{first}");
    until(&space, &["logs", &mirror], |said| said == "first\n");
    let said = space
        .kubectl(&["exec", &mirror, "--", "echo", "inside"])
        .ok();
    assert_eq!(said, "inside\n");
    // The mirror is no more than that: the container does not notice that somebody deletes it.
    let container = |state: &str| state.split(' ').nth(3).map(str::to_owned);
    let uid = |state: &str| state.split(' ').nth(2).map(str::to_owned);
    space
        .kubectl(&["delete", "pod", &mirror, "--wait=false"])
        .ok();
    let again = until(&space, &state, |said| {
        said.starts_with("Running True ") && uid(said) != uid(&first)
    });
    assert_eq!(container(&again), container(&first));
    // Another content is another pod.
    write(&cluster, &manifest(space.name(), "second"));
    let second = until(&space, &state, |said| {
        said.starts_with("Running True ") && container(said) != container(&again)
    });
    until(&space, &["logs", &mirror], |said| said == "second\n");
    let running = || shell(&cluster, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert_eq!(running().matches("sleep 10407").count(), 1, "{second}");
    shell(&cluster, &format!("rm {FILE}"));
    until(&space, &["get", "pods", "--no-headers"], str::is_empty);
    assert!(!running().contains("sleep 10407"));
}

#[test]
fn the_parts_of_the_control_plane_are_well() {
    let cluster = Cluster::shared();
    let shown = cluster.kubectl(36, &["get", "componentstatuses"], "");
    assert!(
        shown
            .stderr
            .contains("v1 ComponentStatus is deprecated in v1.19+")
    );
    let shown = shown.ok();
    for part in ["controller-manager", "etcd-0", "scheduler"] {
        let line = shown.lines().find(|line| line.starts_with(part));
        assert!(
            line.is_some_and(|line| line.contains("Healthy   ok")),
            "{shown}"
        );
    }
}
