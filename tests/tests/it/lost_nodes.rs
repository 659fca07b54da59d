//! `kubernetes-guide.md` 2.2: a node falls silent, its pods go elsewhere, a load balancer's address moves, and it returns.
//! On the way: `cordon`, a node that is registered by hand, and `externalTrafficPolicy: Local` over several nodes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use cluster_tests::Cluster;

/// Two pods on two nodes, which leave a lost node after a second, and a balancer that keeps to nodes with pods.
const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector: {matchLabels: {app: web}}
            topologyKey: kubernetes.io/hostname
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - name: web
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www; echo $HOSTNAME > /www/index.html; exec httpd -f -p 80 -h /www"]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80}]
"#;

const BY_HAND: &str =
    "{apiVersion: v1, kind: Node, metadata: {name: by-hand, labels: {name: mine}}}";

struct Walk {
    cluster: Cluster,
    /// Names and addresses.
    nodes: BTreeMap<String, String>,
}

impl Walk {
    fn start() -> Self {
        let cluster = Cluster::new("lost");
        cluster.oxikube(&["start", "--nodes", "3"]).ok();
        cluster.load(&demo_images::samples::busybox().expect("an image"));
        let path =
            "jsonpath={range .items[*]}{.metadata.name}={.status.addresses[0].address} {end}";
        let nodes = cluster.kubectl(36, &["get", "nodes", "-o", path], "").ok();
        let nodes = nodes.split_whitespace().filter_map(|n| n.split_once('='));
        Self {
            nodes: nodes.map(|(n, a)| (n.to_owned(), a.to_owned())).collect(),
            cluster,
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(36, arguments, "").ok()
    }

    fn wait(&self, what: &str, condition: &str) {
        let condition = format!("--for={condition}");
        self.kubectl(&["wait", "--timeout=120s", &condition, what]);
    }

    fn field(&self, what: &str, path: &str) -> String {
        self.kubectl(&["get", what, "-o", &format!("jsonpath={path}")])
    }

    /// The nodes of the pods that are not on their way out.
    fn pod_nodes(&self) -> Vec<String> {
        let path = "jsonpath={range .items[*]}{.spec.nodeName}|{.metadata.deletionTimestamp} {end}";
        let pods = self.kubectl(&["get", "pods", "-l", "app=web", "-o", path]);
        let pods = pods.split_whitespace().filter_map(|p| p.split_once('|'));
        let mut nodes: Vec<String> = pods
            .filter(|(_, deleted)| deleted.is_empty())
            .map(|(node, _)| node.to_owned())
            .collect();
        nodes.sort();
        nodes
    }
}

/// Asks until the answer is as wanted.
#[track_caller]
fn until<T: Debug>(what: &str, mut ask: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: {answer:?}");
    }
}

/// The status of an answer, or none within a second.
fn status(url: &str) -> Option<u16> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(1)))
        .max_idle_connections(0)
        .http_status_as_error(false)
        .build()
        .into();
    Some(agent.get(url).call().ok()?.status().as_u16())
}

#[test]
fn a_node_is_lost_and_returns() {
    let walk = Walk::start();
    let first = walk.nodes.keys().next().expect("a node").clone();
    walk.kubectl(&["cordon", &first]);
    assert!(
        walk.kubectl(&["get", "nodes"])
            .contains("SchedulingDisabled")
    );
    walk.cluster
        .kubectl(36, &["apply", "-f", "-"], MANIFEST)
        .ok();
    walk.cluster
        .kubectl(36, &["create", "-f", "-"], BY_HAND)
        .ok();
    walk.wait("deployment/web", "condition=Available");
    let others: Vec<String> = walk.nodes.keys().skip(1).cloned().collect();
    assert_eq!(walk.pod_nodes(), others, "not on the cordoned node");
    let address = local_only(&walk, &first);
    walk.kubectl(&["uncordon", &first]);

    let by = r"{.metadata.annotations.oxikube\.io/announced-by}";
    let lost = walk.field("service/web", by);
    lose(&walk, &lost);
    // A pod in its place, on the node that had none, and another node for the address.
    let elsewhere = |nodes: &Vec<String>| nodes.len() == 2 && !nodes.contains(&lost);
    until("a pod elsewhere", || walk.pod_nodes(), elsewhere);
    walk.wait("deployment/web", "condition=Available");
    until(
        "another node",
        || walk.field("service/web", by),
        |by| *by != lost,
    );
    let url = format!("http://{address}/");
    until("the address answers", || status(&url), |s| *s == Some(200));
    let events = walk.kubectl(&["get", "events", "-A"]);
    for text in [
        "NodeNotReady",
        "TaintManagerEviction",
        "Marking for deletion Pod",
    ] {
        assert!(events.contains(text), "{text} is missing: {events}");
    }

    walk.cluster.oxikube(&["node", "start", &lost]).ok();
    let node = format!("node/{lost}");
    walk.wait(&node, "condition=Ready");
    until(
        "no taints",
        || walk.field(&node, "{.spec.taints}"),
        String::is_empty,
    );
    let all = ["get", "pods", "-l", "app=web", "-o", "name"];
    let gone = |pods: &String| pods.lines().count() == 2;
    until("the old pod is gone", || walk.kubectl(&all), gone);
    by_hand(&walk);
}

/// Nodes without pods drop what comes for the service, and say so to who asks; the balancer's address is with one that
/// has some. Returns that address.
fn local_only(walk: &Walk, without: &str) -> String {
    let path = "{.status.loadBalancer.ingress[0].ip}";
    walk.wait("service/web", &format!("jsonpath={path}"));
    let address = walk.field("service/web", path);
    let url = format!("http://{address}/");
    until("the address answers", || status(&url), |s| *s == Some(200));
    let port = walk.field("service/web", "{.spec.ports[0].nodePort}");
    let check = walk.field("service/web", "{.spec.healthCheckNodePort}");
    for (node, address) in &walk.nodes {
        let has_pods = node != without;
        let wanted = if has_pods {
            (Some(200), 200)
        } else {
            (None, 503)
        };
        let ask = || {
            let health = status(&format!("http://{address}:{check}/healthz"));
            (
                status(&format!("http://{address}:{port}/")),
                health.unwrap_or(0),
            )
        };
        until(node, ask, |answer| *answer == wanted);
    }
    address
}

/// Switches a node off and waits until the cluster has noticed.
fn lose(walk: &Walk, node: &str) {
    let began = Instant::now();
    walk.cluster.oxikube(&["node", "stop", node]).ok();
    let object = format!("node/{node}");
    walk.wait(&object, "condition=Ready=Unknown");
    let noticed = began.elapsed().as_secs();
    assert!(
        (25..60).contains(&noticed),
        "noticed after {noticed} seconds"
    );
    let path = "{range .spec.taints[*]}{.key}:{.effect} {end}";
    let taint = "node.kubernetes.io/unreachable";
    let both = |taints: &String| {
        let has = |effect| taints.contains(&format!("{taint}:{effect}"));
        has("NoSchedule") && has("NoExecute")
    };
    until("taints", || walk.field(&object, path), both);
    let ready = r#"{.status.conditions[?(@.type=="Ready")].message}"#;
    assert_eq!(
        walk.field(&object, ready),
        "Kubelet stopped posting node status."
    );
}

/// A node that nobody runs is there, and counts as lost in the end.
fn by_hand(walk: &Walk) {
    walk.wait("node/by-hand", "condition=Ready=Unknown");
    let ready = r#"{.status.conditions[?(@.type=="Ready")].reason}"#;
    assert_eq!(walk.field("node/by-hand", ready), "NodeStatusNeverUpdated");
    walk.kubectl(&["delete", "node", "by-hand"]);
    let events = || walk.kubectl(&["get", "events"]);
    let removed = "Removing Node by-hand from Controller";
    until("an event", events, |events| events.contains(removed));
}
