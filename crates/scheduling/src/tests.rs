//! Pods and nodes in YAML's JSON, decisions out.

mod preemption;
mod spread;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::{PodInfo, Queue, Snapshot, Tries, Wake, schedule};

fn node(name: &str, more: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"}},
    });
    merge(&mut node, more);
    serde_json::from_value(node).expect("a node")
}

fn pod(name: &str, spec: Value) -> PodInfo {
    let mut all = json!({"containers": [{"name": "a", "image": "x"}]});
    merge(&mut all, spec);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "spec": all,
    }))
    .expect("a pod");
    PodInfo::new(&pod)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]})
}

fn check(nodes: &[Node], placed: &[PodInfo], pod: &PodInfo, expect: Expect) {
    let mut snapshot = Snapshot::new();
    nodes.iter().for_each(|node| snapshot.set_node(node));
    placed.iter().for_each(|pod| snapshot.set_pod(pod.clone()));
    let text = match schedule(&snapshot, pod, 0) {
        Ok(node) => node,
        Err(why) => why.to_string(),
    };
    expect.assert_eq(&text);
}

#[test]
fn without_nodes_there_is_nothing_to_say_about_nodes() {
    check(
        &[],
        &[],
        &pod("p", json!({})),
        expect!["no nodes available to schedule pods"],
    );
}

#[test]
fn every_plugin_tells_its_reason() {
    let plain = node("a", json!({}));
    let cordoned = node("b", json!({"spec": {"unschedulable": true}}));
    let taint = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let tainted = node("c", json!({"spec": {"taints": taint}}));
    let all = [plain.clone(), cordoned, tainted.clone()];
    check(
        &all,
        &[],
        &pod("p", asks("3")),
        expect![
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
        ],
    );
    check(
        &all,
        &[],
        &pod(
            "p",
            json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]}),
        ),
        expect!["0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."],
    );
    check(
        &all,
        &[],
        &pod(
            "p",
            json!({"nodeName": "z", "tolerations": [{"operator": "Exists"}]}),
        ),
        expect!["0/3 nodes are available: 3 node(s) didn't match the requested node name."],
    );
    let port =
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let mut first = pod("first", port.clone());
    first.node_name = Some("a".into());
    check(
        &[plain],
        &[first],
        &pod("p", port),
        expect![
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        ],
    );
    let tolerates =
        json!({"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    check(&[tainted], &[], &pod("p", tolerates), expect!["c"]);
}

#[test]
fn a_full_node_says_what_is_missing_and_the_emptier_one_wins() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let on = |name: &str, node: &str, cpu: &str| PodInfo {
        node_name: Some(node.into()),
        ..pod(name, asks(cpu))
    };
    let placed = [on("x", "a", "1500m"), on("y", "b", "500m")];
    check(&nodes, &placed, &pod("p", asks("1")), expect!["b"]);
    check(&nodes, &placed, &pod("p", asks("100m")), expect!["b"]);
    let many = [on("x", "a", "0"), on("y", "a", "0"), on("z", "a", "0")];
    check(
        &nodes[..1],
        &many,
        &pod("p", json!({})),
        expect!["0/1 nodes are available: 1 Too many pods."],
    );
}

#[test]
fn init_containers_and_sidecars_count_as_they_run() {
    let spec = json!({
        "initContainers": [
            {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}},
            {"name": "big", "resources": {"requests": {"cpu": "1"}}},
        ],
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}],
        "overhead": {"cpu": "10m"},
    });
    assert_eq!(pod("p", spec).requests.get("cpu"), 1210);
}

#[test]
fn pods_that_must_not_meet_do_not_meet() {
    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let web = PodInfo {
        node_name: Some("a".into()),
        ..pod("web", anti.clone())
    };
    check(
        &nodes,
        std::slice::from_ref(&web),
        &pod("web", anti.clone()),
        expect!["b"],
    );
    let mut second = pod("second", json!({}));
    second.labels.insert("app".into(), "web".into());
    check(
        &nodes[..1],
        &[web],
        &second,
        expect![
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
        ],
    );
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
    check(
        &nodes,
        &[],
        &pod("p", near.clone()),
        expect!["0/2 nodes are available: 2 node(s) didn't match pod affinity rules."],
    );
    check(&nodes[..1], &[], &pod("web", near), expect!["a"]);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

#[test]
fn the_queue_hands_out_by_priority_and_tries_again_when_it_can_help() {
    let mut queue = Queue::new();
    let (low, high) = (pod("low", json!({})), pod("high", json!({"priority": 10})));
    queue.set(low.clone(), at(0));
    queue.set(high.clone(), at(0));
    assert_eq!(queue.pop(at(0)).expect("a pod").key, high.key);
    queue.unschedulable(&high.key, ["NodeResourcesFit"].into(), at(0));
    assert_eq!(queue.pop(at(0)).expect("a pod").key, low.key);
    queue.delete(&low.key);
    assert_eq!((queue.pop(at(100)), queue.next_due()), (None, None));
    queue.wake(Wake::PodBound, "AssignedPodAdd", at(100));
    assert_eq!(queue.pop(at(100)), None, "a bound pod frees no resources");
    queue.wake(Wake::PodLeft, "AssignedPodDelete", at(100));
    assert_eq!(queue.pop(at(100)).expect("a pod").key, high.key);
    // What happens while a pod is being tried counts as well.
    queue.wake(Wake::NodeChanged, "NodeAdd", at(100));
    queue.unschedulable(&high.key, ["NodeResourcesFit"].into(), at(100));
    assert_eq!(queue.next_due(), Some(at(102)));
    assert_eq!(queue.pop(at(101)), None);
    assert_eq!(queue.pending().backing_off, 1);
    assert_eq!(queue.pop(at(102)).expect("a pod").key, high.key);
    let tries = Tries {
        attempts: 3,
        since: Some(at(0)),
    };
    assert_eq!(queue.tries(&high.key), tries);
    let incoming: Vec<String> = (queue.incoming().iter())
        .map(|((part, event), count)| format!("{part} {event} {count}"))
        .collect();
    let wanted = [
        "active AssignedPodDelete 1",
        "active BackoffComplete 1",
        "active UnscheduledPodAdd 2",
        "backoff ScheduleAttemptFailure 1",
        "unschedulable ScheduleAttemptFailure 1",
    ];
    assert_eq!(incoming, wanted);
}

#[test]
fn a_gated_pod_waits_until_its_gates_are_gone() {
    let mut queue = Queue::new();
    queue.set(pod("p", json!({"schedulingGates": [{"name": "g"}]})), at(0));
    assert_eq!(queue.pop(at(0)), None);
    assert_eq!(queue.pending().gated, 1);
    queue.set(pod("p", json!({})), at(5));
    let popped = queue.pop(at(5)).expect("a pod");
    assert_eq!(queue.tries(&popped.key).since, Some(at(5)));
}

mod volumes;
