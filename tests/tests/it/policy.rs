//! Rules about many objects: quotas and limits of a namespace, disruption budgets, priorities, autoscalers, ingresses.

use cluster_tests::{Cluster, KUBECTLS};
use serde_json::Value;

const BOUNDS: &str = r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: team}
spec: {hard: {pods: "2", requests.cpu: 300m, count/configmaps: "2", services.nodeports: "0"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: bounds}
spec:
  limits:
  - {type: Container, default: {cpu: 200m}, defaultRequest: {cpu: 100m}, max: {cpu: 500m}}
"#;

fn sleeper(name: &str, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  {more}
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sleep, '100000']
"
    )
}

#[test]
fn quotas_and_limits_hold_in_their_namespace() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("bounds", minor);
        space.input(&["apply", "-f", "-"], BOUNDS).ok();
        space.wait(&["quota/team"], "jsonpath={.status.used.pods}=0");
        space.input(&["apply", "-f", "-"], &sleeper("a", "")).ok();
        let get = |path: &str| {
            let path = format!("jsonpath={{{path}}}");
            space.kubectl(&["get", "pod", "a", "-o", &path]).ok()
        };
        assert_eq!(
            get(".spec.containers[0].resources"),
            r#"{"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}}"#
        );
        assert_eq!(
            get(r".metadata.annotations.kubernetes\.io/limit-ranger"),
            "LimitRanger plugin set: cpu request for container main; cpu limit for container main"
        );
        let used = space.kubectl(&["describe", "quota", "team"]).ok();
        assert!(used.contains("requests.cpu        100m  300m"), "{used}");
        let greedy = sleeper("b", "").replace(
            "command:",
            "resources: {requests: {cpu: 250m}, limits: {cpu: 400m}}\n    command:",
        );
        let refused = space.input(&["apply", "-f", "-"], &greedy).failed();
        let text = "pods \"b\" is forbidden: exceeded quota: team, requested: requests.cpu=250m, used: requests.cpu=100m, limited: requests.cpu=300m";
        assert!(refused.contains(text), "{refused}");
        let refused = space
            .input(&["apply", "-f", "-"], &greedy.replace("400m", "600m"))
            .failed();
        let text =
            "pods \"b\" is forbidden: maximum cpu usage per Container is 500m, but limit is 600m";
        assert!(refused.contains(text), "{refused}");
        let refused = space
            .kubectl(&["create", "service", "nodeport", "web", "--tcp=80"])
            .failed();
        assert!(
            refused.contains("requested: services.nodeports=1, used: services.nodeports=0"),
            "{refused}"
        );
        // What goes is given back.
        space.kubectl(&["delete", "pod", "a", "--wait=false"]).ok();
        space.wait(&["quota/team"], "jsonpath={.status.used.pods}=0");
        space.input(&["apply", "-f", "-"], &greedy).ok();
    }
}

#[test]
fn an_autoscaler_is_one_object_in_two_versions() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("autoscale", minor);
        space
            .kubectl(&[
                "create",
                "deployment",
                "web",
                "--image=busybox",
                "--replicas=0",
            ])
            .ok();
        space
            .kubectl(&[
                "autoscale",
                "deployment",
                "web",
                "--min=2",
                "--max=5",
                "--cpu-percent=60",
            ])
            .ok();
        let table = space.kubectl(&["get", "hpa"]).ok();
        assert!(
            table.contains("Deployment/web") && table.contains("cpu: <unknown>/60%"),
            "{table}"
        );
        let path = |version: &str| {
            let name = space.name();
            format!("/apis/autoscaling/{version}/namespaces/{name}/horizontalpodautoscalers/web")
        };
        let read = |version: &str| -> Value {
            let text = space.kubectl(&["get", "--raw", &path(version)]).ok();
            serde_json::from_str(&text).expect("JSON")
        };
        let (old, new) = (read("v1"), read("v2"));
        assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(old["metadata"]["uid"], new["metadata"]["uid"]);
        let target = &new["spec"]["metrics"][0]["resource"]["target"];
        assert_eq!(target["averageUtilization"], 60);
        let described = space.kubectl(&["describe", "hpa", "web"]).ok();
        assert!(described.contains("Min replicas:"), "{described}");
    }
}

const TRAFFIC: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]
";

#[test]
fn ingresses_and_network_policies_are_kept_and_told() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("traffic", minor);
        let rule = "--rule=web.example.com/app*=web:80,tls=secret";
        space
            .kubectl(&["create", "ingress", "web", "--class=external", rule])
            .ok();
        let table = space.kubectl(&["get", "ingress"]).ok();
        assert!(
            table.contains("external")
                && table.contains("web.example.com")
                && table.contains("80, 443"),
            "{table}"
        );
        let described = space.kubectl(&["describe", "ingress", "web"]).ok();
        assert!(
            described.contains("secret terminates web.example.com"),
            "{described}"
        );
        space.input(&["apply", "-f", "-"], TRAFFIC).ok();
        let described = space.kubectl(&["describe", "netpol", "web"]).ok();
        assert!(
            described.contains("PodSelector:     app=web") && described.contains("To Port: 80/TCP"),
            "{described}"
        );
    }
}

const GUARDED: &str = r#"
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
      containers:
      - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
"#;

#[test]
fn a_drain_waits_for_the_disruption_budget() {
    let cluster = Cluster::start("drain");
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    let kubectl = |arguments: &[&str], input: &str| cluster.kubectl(36, arguments, input);
    kubectl(&["apply", "-f", "-"], GUARDED).ok();
    let healthy = "--for=jsonpath={.status.currentHealthy}=2";
    kubectl(&["wait", "pdb/web", healthy, "--timeout=60s"], "").ok();
    let table = kubectl(&["get", "pdb"], "").ok();
    assert!(table.contains("ALLOWED DISRUPTIONS"), "{table}");
    let node = kubectl(
        &["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"],
        "",
    )
    .ok();
    let drain = |more: &[&str]| {
        let all = [&["drain", &node, "--pod-selector=app=web"], more].concat();
        kubectl(&all, "")
    };
    let refused = drain(&["--timeout=2s"]).failed();
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(refused.contains(text), "{refused}");
    let patch = r#"{"spec": {"minAvailable": 0}}"#;
    kubectl(&["patch", "pdb", "web", "-p", patch], "").ok();
    drain(&["--timeout=60s"]).ok();
    kubectl(&["uncordon", &node], "").ok();
    kubectl(
        &["rollout", "status", "deployment/web", "--timeout=60s"],
        "",
    )
    .ok();
}

#[test]
fn a_pod_of_higher_priority_gets_room() {
    let cluster = Cluster::start("room");
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    let kubectl = |arguments: &[&str], input: &str| cluster.kubectl(36, arguments, input);
    for (name, value) in [("low", "10"), ("high", "1000")] {
        let value = format!("--value={value}");
        kubectl(&["create", "priorityclass", name, &value], "").ok();
    }
    let cpu = kubectl(
        &[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[0].status.allocatable.cpu}",
        ],
        "",
    )
    .ok();
    let whole = |name: &str, more: &str| {
        sleeper(name, more).replace(
            "command:",
            &format!("resources: {{requests: {{cpu: {cpu:?}}}}}\n    command:"),
        )
    };
    let ready = |name: &str| {
        let name = format!("pod/{name}");
        kubectl(
            &["wait", &name, "--for=condition=Ready", "--timeout=60s"],
            "",
        )
        .ok();
    };
    kubectl(
        &["apply", "-f", "-"],
        &whole("first", "priorityClassName: low"),
    )
    .ok();
    ready("first");
    let patient = whole(
        "patient",
        "priorityClassName: high\n  preemptionPolicy: Never",
    );
    let refused = kubectl(&["apply", "-f", "-"], &patient).failed();
    assert!(refused.contains("PreemptionPolicy"), "{refused}");
    kubectl(
        &["apply", "-f", "-"],
        &whole("equal", "priorityClassName: low"),
    )
    .ok();
    let why = "--for=jsonpath={.status.conditions[0].message}=0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    kubectl(&["wait", "pod/equal", why, "--timeout=60s"], "").ok();
    kubectl(&["delete", "pod", "equal"], "").ok();
    kubectl(
        &["apply", "-f", "-"],
        &whole("urgent", "priorityClassName: high"),
    )
    .ok();
    ready("urgent");
    let gone = kubectl(&["get", "pod", "first"], "").failed();
    assert!(gone.contains("NotFound"), "{gone}");
    let uid = kubectl(
        &["get", "pod", "urgent", "-o", "jsonpath={.metadata.uid}"],
        "",
    )
    .ok();
    let events = kubectl(&["get", "events", "--field-selector=reason=Preempted"], "").ok();
    let text = format!("Preempted by pod {uid} on node");
    assert!(events.contains(&text), "{events}");
}
