//! Clusters as a whole: made, listed, switched off and on, killed, removed without a trace.

use std::collections::BTreeSet;
use std::process::Command;

use cluster_tests::Cluster;
use serde_json::Value;

/// What a cluster could leave behind on the machine, by name of the cluster.
fn traces(of: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut keep = |kind: &str, text: String| {
        found.extend(
            text.lines()
                .filter(|line| line.contains(of))
                .map(|line| format!("{kind}: {line}")),
        );
    };
    keep(
        "mount",
        std::fs::read_to_string("/proc/self/mounts").expect("mounts"),
    );
    keep(
        "interface",
        std::fs::read_to_string("/proc/net/dev").expect("interfaces"),
    );
    keep("rule", said("nft", &["list", "tables"]));
    keep(
        "cgroup",
        said(
            "find",
            &["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{of}*")],
        ),
    );
    keep(
        "process",
        said("ps", &["-eo", "args"]).replace("ps -eo", ""),
    );
    found
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    String::from_utf8_lossy(&output.expect("installed").stdout).into_owned()
}

#[test]
fn a_cluster_comes_and_goes_without_a_trace() {
    let cluster = Cluster::start("trace");
    let status: Value =
        serde_json::from_str(&cluster.oxikube(&["status", "-o", "json"]).ok()).expect("JSON");
    assert_eq!(status["status"], "Ready", "{status}");
    let nodes = cluster.kubectl(36, &["get", "nodes"], "").ok();
    assert!(
        nodes.contains(" Ready ") && nodes.contains("v1.37.0"),
        "{nodes}"
    );
    let name = cluster.name().to_owned();
    cluster.oxikube(&["delete"]).ok();
    let left = traces(&name);
    assert!(left.is_empty(), "{left:#?}");
    assert!(!cluster.state().join(&name).exists());
    assert!(cluster.oxikube(&["status"]).code != 0);
    // Deleting what is gone is fine.
    cluster.oxikube(&["delete"]).ok();
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "date +%s%N >> /data/starts; exec sleep 100000"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"#;

#[test]
fn power_off_and_on_keeps_objects_uids_and_volumes() {
    let cluster = Cluster::start("power");
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    cluster.kubectl(36, &["apply", "-f", "-"], POD).ok();
    cluster
        .kubectl(
            36,
            &[
                "wait",
                "pod/keeper",
                "--for=condition=Ready",
                "--timeout=60s",
            ],
            "",
        )
        .ok();
    let get = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        cluster
            .kubectl(36, &["get", "pod", "keeper", "-o", &path], "")
            .ok()
    };
    let uid = get(".metadata.uid");
    assert_eq!(get(".status.containerStatuses[0].restartCount"), "0");

    cluster.oxikube(&["stop"]).ok();
    assert!(
        cluster
            .kubectl(36, &["get", "pods", "--request-timeout=2s"], "")
            .code
            != 0
    );
    cluster.oxikube(&["start"]).ok();

    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    cluster
        .kubectl(36, &["wait", "pod/keeper", restarted, "--timeout=60s"], "")
        .ok();
    cluster
        .kubectl(
            36,
            &[
                "wait",
                "pod/keeper",
                "--for=condition=Ready",
                "--timeout=60s",
            ],
            "",
        )
        .ok();
    assert_eq!(get(".metadata.uid"), uid);
    let starts = cluster
        .kubectl(
            36,
            &["exec", "keeper", "--", "wc", "-l", "/data/starts"],
            "",
        )
        .ok();
    assert!(starts.starts_with("2 "), "{starts}");
}

/// The cluster's server: the process `oxikube node-server` in the cluster's control group.
fn server_of(cluster: &Cluster) -> String {
    let group = format!("/oxikube/{}/", cluster.name());
    let is_server = |pid: &String| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        read("cmdline").is_ok_and(|words| words.split('\0').nth(1) == Some("node-server"))
            && read("cgroup").is_ok_and(|groups| groups.contains(&group))
    };
    let entries = std::fs::read_dir("/proc").expect("processes");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut servers = names
        .filter(|name| name.parse::<u32>().is_ok())
        .filter(is_server);
    servers.next().expect("the server runs")
}

#[test]
fn containers_run_on_when_the_server_is_killed() {
    let cluster = Cluster::start("kill");
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    cluster.kubectl(36, &["apply", "-f", "-"], POD).ok();
    cluster
        .kubectl(
            36,
            &[
                "wait",
                "pod/keeper",
                "--for=condition=Ready",
                "--timeout=60s",
            ],
            "",
        )
        .ok();
    let server = server_of(&cluster);
    assert!(
        Command::new("kill")
            .args(["-9", &server])
            .status()
            .expect("kill")
            .success()
    );
    // `start` of a running cluster waits until it is ready.
    cluster.oxikube(&["start"]).ok();
    cluster
        .kubectl(
            36,
            &[
                "wait",
                "pod/keeper",
                "--for=condition=Ready",
                "--timeout=60s",
            ],
            "",
        )
        .ok();
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(
        cluster
            .kubectl(36, &["get", "pod", "keeper", "-o", path], "")
            .ok(),
        "0"
    );
    let starts = cluster
        .kubectl(
            36,
            &["exec", "keeper", "--", "wc", "-l", "/data/starts"],
            "",
        )
        .ok();
    assert!(starts.starts_with("1 "), "{starts}");
}

#[test]
fn two_clusters_live_side_by_side_and_a_taken_port_is_told() {
    let (first, second) = (Cluster::start("one"), Cluster::start("two"));
    for cluster in [&first, &second] {
        let nodes = cluster
            .kubectl(36, &["get", "nodes", "-o", "name"], "")
            .ok();
        assert_eq!(nodes.lines().count(), 1);
    }
    let status: Value =
        serde_json::from_str(&first.oxikube(&["status", "-o", "json"]).ok()).expect("JSON");
    let api = status["api"].as_str().expect("an address");
    let port = api.rsplit(':').next().expect("a port").to_owned();
    let third = Cluster::new("three");
    let error = third.oxikube(&["start", "--api-port", &port]).failed();
    assert!(
        error.contains(&format!("port {port}")) && error.contains("--api-port"),
        "{error}"
    );
    assert!(traces(third.name()).is_empty());
}
