//! Clusters of several nodes: what runs on one reaches what runs on another, and a node may come and go.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cluster_tests::Cluster;
use serde_json::{Value, json};

/// How long a change of a node may take to be seen everywhere.
const PATIENCE: Duration = Duration::from_secs(30);
const NODE_PORT: u16 = 30080;

fn start(purpose: &str, arguments: &[&str]) -> Cluster {
    let cluster = Cluster::new(purpose);
    cluster.oxikube(&[&["start"], arguments].concat()).ok();
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    cluster
}

/// Names and addresses of all nodes.
fn nodes(cluster: &Cluster) -> Vec<(String, String)> {
    let list = cluster.oxikube(&["node", "list", "-o", "json"]).ok();
    let list: Vec<Value> = serde_json::from_str(&list).expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    list.iter()
        .map(|node| (text(&node["name"]), text(&node["address"])))
        .collect()
}

/// A web server on a node that tells its own name, and has something larger as well.
fn web_pod(name: &str, node: &str) -> Value {
    let serve = "mkdir /www; echo $HOSTNAME > /www/index.html; \
                 head -c 1000000 /dev/zero > /www/large; exec httpd -f -vv -p 80 -h /www";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", serve],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
            }],
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": NODE_PORT}],
        },
    })
}

/// One web pod a node, `web-1` on the first, and a service for all.
fn serve_on_all(cluster: &Cluster) -> Vec<(String, String)> {
    let nodes = nodes(cluster);
    let pods = nodes.iter().zip(1..);
    let mut items: Vec<Value> = pods
        .map(|((node, _), number)| web_pod(&format!("web-{number}"), node))
        .collect();
    items.push(service());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    cluster.kubectl(36, &["apply", "-f", "-"], &list).ok();
    let ready = [
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "pod",
        "-l",
        "app=web",
    ];
    cluster.kubectl(36, &ready, "").ok();
    nodes
}

fn pod_address(cluster: &Cluster, pod: &str) -> String {
    let path = "jsonpath={.status.podIP}";
    cluster
        .kubectl(36, &["get", "pod", pod, "-o", path], "")
        .ok()
}

fn in_pod(cluster: &Cluster, pod: &str, command: &[&str]) -> String {
    let all = [&["exec", pod, "--"], command].concat();
    cluster.kubectl(36, &all, "").ok()
}

/// Asks a node's port from this machine.
fn ask_node(address: &str) -> std::io::Result<String> {
    let target = format!("{address}:{NODE_PORT}")
        .parse()
        .expect("an address");
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// Does it again until it gives what is wanted.
#[track_caller]
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every pod reaches every other one under its own address, and everything behind the service's names.
fn everybody_reaches_everybody(cluster: &Cluster) {
    let nodes = serve_on_all(cluster);
    let names: BTreeSet<String> = (1..=nodes.len()).map(|n| format!("web-{n}")).collect();
    let addresses: Vec<(&String, String)> = names
        .iter()
        .map(|name| (name, pod_address(cluster, name)))
        .collect();
    for (from, own) in &addresses {
        for (to, address) in addresses.iter().filter(|(to, _)| to != from) {
            let url = format!("http://{address}/");
            let told = in_pod(
                cluster,
                from,
                &["busybox", "timeout", "5", "wget", "-qO-", &url],
            );
            assert_eq!(told.trim(), to.as_str());
            let large = format!("busybox timeout 5 wget -qO- {url}large | wc -c");
            let bytes = in_pod(cluster, from, &["sh", "-c", &large]);
            assert_eq!(bytes.trim(), "1000000");
            // Nobody stands between pods.
            let log = cluster.kubectl(36, &["logs", to], "").ok();
            assert!(log.contains(own.as_str()), "{own} is not among {log}");
        }
        let told = in_pod(
            cluster,
            from,
            &["busybox", "timeout", "5", "wget", "-qO-", "http://web/"],
        );
        assert!(names.contains(told.trim()), "{told}");
    }
    for (_, node) in &nodes {
        let mut missing = names.clone();
        until("every pod answers on every node", || {
            missing.remove(&ask_node(node).expect("an answer"));
            missing.is_empty().then_some(())
        });
    }
}

#[test]
fn pods_reach_each_other_over_vxlan() {
    let cluster = start("vxlan", &["--nodes", "3"]);
    everybody_reaches_everybody(&cluster);
}

#[test]
fn pods_reach_each_other_over_plain_routes() {
    let cluster = start("hostgw", &["--nodes", "2", "--network-backend", "host-gw"]);
    everybody_reaches_everybody(&cluster);
    let other = cluster
        .oxikube(&["start", "--network-backend", "udp"])
        .failed();
    assert!(
        other.contains("was made with the network back end host-gw"),
        "{other}"
    );
}

#[test]
fn pods_reach_each_other_over_udp_and_go_on_when_a_server_starts_again() {
    let cluster = start("udp", &["--nodes", "2", "--network-backend", "udp"]);
    everybody_reaches_everybody(&cluster);
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let restarts = || {
        cluster
            .kubectl(36, &["get", "pods", "-o", restarts], "")
            .ok()
    };
    assert_eq!(restarts(), "0 0");
    let kill = "kill $(pgrep -f '[o]xikube node-server')";
    cluster
        .oxikube(&["node", "shell", "2", "--", "sh", "-c", kill])
        .ok();
    let url = format!("http://{}/", pod_address(&cluster, "web-2"));
    until("the tunnel carries again", || {
        let ask = [
            "exec", "web-1", "--", "busybox", "timeout", "1", "wget", "-qO-", &url,
        ];
        let told = cluster.kubectl(36, &ask, "");
        (told.stdout.trim() == "web-2").then_some(())
    });
    assert_eq!(restarts(), "0 0");
}

#[test]
fn nodes_come_and_go() {
    let cluster = start("come-go", &[]);
    let first = format!("oxikube-{}", cluster.name());
    let names = |cluster: &Cluster| -> Vec<String> {
        let all = cluster
            .kubectl(36, &["get", "nodes", "-o", "name"], "")
            .ok();
        let all = all
            .lines()
            .map(|line| line.trim_start_matches("node/").to_owned());
        all.collect()
    };
    assert_eq!(names(&cluster), [first.as_str()]);
    cluster.oxikube(&["node", "add"]).ok();
    let second = format!("{first}-2");
    assert_eq!(names(&cluster), [first.as_str(), &second]);
    // An image that was loaded before is on the new node as well.
    everybody_reaches_everybody(&cluster);
    let shell = |command: &str| {
        let arguments = ["node", "shell", &second, "--", "sh", "-c", command];
        cluster.oxikube(&arguments)
    };
    assert_eq!(shell("hostname").ok().trim(), second);
    assert_eq!(shell("exit 3").code, 3);
    // Power off and on: what is on the node runs again.
    cluster.oxikube(&["node", "stop", "2"]).ok();
    let off = cluster.oxikube(&["node", "list"]).ok();
    assert!(
        off.lines()
            .any(|l| l.starts_with(&second) && l.contains("Stopped")),
        "{off}"
    );
    cluster.oxikube(&["node", "start", &second]).ok();
    until("the pod on the node answers again", || {
        let url = format!("http://{}/", pod_address(&cluster, "web-2"));
        let ask = [
            "exec", "web-1", "--", "busybox", "timeout", "1", "wget", "-qO-", &url,
        ];
        (cluster.kubectl(36, &ask, "").stdout.trim() == "web-2").then_some(())
    });
    // The whole cluster off and on.
    cluster.oxikube(&["stop"]).ok();
    cluster.oxikube(&["start"]).ok();
    assert_eq!(names(&cluster), [first.as_str(), &second]);
    // More and fewer.
    cluster.oxikube(&["start", "--nodes", "3"]).ok();
    let third = format!("{first}-3");
    assert_eq!(names(&cluster), [first.as_str(), &second, &third]);
    let fewer = cluster.oxikube(&["start", "--nodes", "1"]).failed();
    assert!(fewer.contains("has 3 nodes: remove some with"), "{fewer}");
    let first_stays = cluster.oxikube(&["node", "rm", &first]).failed();
    assert!(
        first_stays.contains("has the control plane"),
        "{first_stays}"
    );
    cluster.oxikube(&["node", "rm", &second]).ok();
    assert_eq!(names(&cluster), [first.as_str(), &third]);
    let pods = cluster.kubectl(36, &["get", "pods", "-o", "name"], "").ok();
    assert_eq!(pods.trim(), "pod/web-1");
}

/// Pods that leave a lost node after a second.
fn impatient(replicas: u32) -> String {
    let leave_after = |taint: &str| {
        json!({
            "key": format!("node.kubernetes.io/{taint}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 1,
        })
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "impatient"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "impatient"}},
            "template": {
                "metadata": {"labels": {"app": "impatient"}},
                "spec": {
                    "tolerations": [leave_after("unreachable"), leave_after("not-ready")],
                    "terminationGracePeriodSeconds": 3,
                    "containers": [{
                        "name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "100000"],
                    }],
                },
            },
        },
    })
    .to_string()
}

#[test]
fn a_lost_node_is_told_its_pods_run_elsewhere_and_it_returns() {
    let grace = ["--nodes", "3", "--node-monitor-grace-period", "15s"];
    let cluster = start("lost", &grace);
    let kubectl = |arguments: &[&str]| cluster.kubectl(36, arguments, "").ok();
    let all = nodes(&cluster);
    let (first, second, third) = (&all[0].0, &all[1].0, &all[2].0);
    kubectl(&["cordon", first, second]);
    cluster
        .kubectl(36, &["apply", "-f", "-"], &impatient(2))
        .ok();
    kubectl(&["rollout", "status", "deployment/impatient", "--timeout=60s"]);
    let where_path = "jsonpath={.items[*].spec.nodeName}";
    let places = || kubectl(&["get", "pods", "-l", "app=impatient", "-o", where_path]);
    assert_eq!(places(), format!("{third} {third}"));
    let old = kubectl(&["get", "pods", "-l", "app=impatient", "-o", "name"]);
    kubectl(&["uncordon", first, second]);
    cluster.oxikube(&["node", "stop", third]).ok();
    kubectl(&[
        "wait",
        "--for=condition=Ready=Unknown",
        "--timeout=60s",
        "node",
        third,
    ]);
    let message = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
    let message = kubectl(&["get", "node", third, "-o", message]);
    assert_eq!(message, "Kubelet stopped posting node status.");
    let taints = "jsonpath={range .spec.taints[*]}{.key}:{.effect} {end}";
    let taints = || kubectl(&["get", "node", third, "-o", taints]);
    until("the node is tainted", || {
        let unreachable = "node.kubernetes.io/unreachable";
        let taints = taints();
        let has = |effect: &str| taints.contains(&format!("{unreachable}:{effect}"));
        (has("NoSchedule") && has("NoExecute")).then_some(())
    });
    for pod in old.lines() {
        // What nobody can stop any more is on its way out until the node comes back.
        let deleted = "--for=jsonpath={.metadata.deletionTimestamp}";
        kubectl(&["wait", deleted, "--timeout=60s", pod]);
    }
    kubectl(&["rollout", "status", "deployment/impatient", "--timeout=60s"]);
    let events = kubectl(&[
        "get",
        "events",
        "--field-selector",
        "reason=TaintManagerEviction",
    ]);
    assert!(events.contains("Marking for deletion Pod"), "{events}");
    cluster.oxikube(&["node", "start", third]).ok();
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "node",
        third,
    ]);
    until("the taints go", || taints().is_empty().then_some(()));
    for pod in old.lines() {
        kubectl(&["wait", "--for=delete", "--timeout=60s", pod]);
    }
    assert!(!places().contains(third.as_str()), "{}", places());
}
