//! Who has to go.

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{asks, merge, node, pod};
use crate::{PodInfo, Snapshot, preempt, schedule};

fn on(node: &str, name: &str, priority: i32, cpu: &str) -> PodInfo {
    let mut pod = of(name, priority, cpu);
    pod.node_name = Some(node.into());
    pod.started = Some(Timestamp::UNIX_EPOCH);
    pod
}

fn of(name: &str, priority: i32, cpu: &str) -> PodInfo {
    let mut spec = asks(cpu);
    merge(&mut spec, json!({"priority": priority}));
    pod(name, spec)
}

fn budget(app: &str, allowed: i32) -> Value {
    json!({"metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed}})
}

fn check(nodes: &[Node], there: &[PodInfo], budgets: &[Value], pod: &PodInfo, expected: Expect) {
    let mut snapshot = Snapshot::new();
    nodes.iter().for_each(|node| snapshot.set_node(node));
    there.iter().for_each(|pod| snapshot.set_pod(pod.clone()));
    for budget in budgets {
        snapshot.set_budget(&serde_json::from_value(budget.clone()).unwrap());
    }
    expected.assert_eq(&told(&snapshot, pod));
}

fn told(snapshot: &Snapshot, pod: &PodInfo) -> String {
    let mut why = schedule(snapshot, pod, 0).unwrap_err();
    match preempt(snapshot, pod, &why, 0) {
        Ok(found) => {
            let names: Vec<&str> = found.victims.iter().map(|v| v.key.name.as_str()).collect();
            format!("{}: {}", found.node, names.join(" "))
        }
        Err(text) => {
            why.preemption = text;
            why.to_string()
        }
    }
}

#[test]
fn the_least_important_pods_that_are_enough_go() {
    let one = [node("a", json!({}))];
    let there = [
        on("a", "x", 1, "500m"),
        on("a", "y", 2, "500m"),
        on("a", "z", 3, "500m"),
    ];
    check(&one, &there, &[], &of("p", 10, "600m"), expect!["a: x"]);
    check(&one, &there, &[], &of("p", 10, "1500m"), expect!["a: y x"]);
    check(
        &one,
        &there,
        &[budget("x", 0)],
        &of("p", 10, "600m"),
        expect!["a: y"],
    );
}

#[test]
fn the_node_that_loses_least_gives_way() {
    let nodes = ["a", "b", "c"].map(|name| node(name, json!({})));
    let there = [
        on("a", "x", 5, "2"),
        on("b", "y", 3, "2"),
        on("c", "z", 3, "1"),
        on("c", "w", 3, "1"),
    ];
    check(&nodes, &there, &[], &of("p", 10, "2"), expect!["b: y"]);
    check(
        &nodes,
        &there,
        &[budget("y", 0)],
        &of("p", 10, "2"),
        expect!["c: w z"],
    );
}

#[test]
fn where_nobody_can_go_the_message_says_so() {
    let cordoned = node("b", json!({"spec": {"unschedulable": true}}));
    let nodes = [node("a", json!({})), cordoned];
    let there = [on("a", "x", 10, "2")];
    check(
        &nodes,
        &there,
        &[],
        &of("p", 10, "1"),
        expect![
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        ],
    );
    check(
        &nodes,
        &there,
        &[],
        &of("p", 20, "3"),
        expect![
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ],
    );
    let mut shy = of("p", 20, "1");
    shy.never_preempts = true;
    check(
        &nodes[..1],
        &there,
        &[],
        &shy,
        expect![
            "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
        ],
    );
}

#[test]
fn what_is_promised_is_kept_free() {
    let mut snapshot = Snapshot::new();
    snapshot.set_node(&node("a", json!({})));
    let mut waiting = of("first", 10, "2");
    waiting.promised = Some("a".into());
    snapshot.promise(waiting.clone());
    assert!(schedule(&snapshot, &of("late", 5, "1"), 0).is_err());
    assert_eq!(schedule(&snapshot, &of("urgent", 20, "1"), 0).unwrap(), "a");
    assert_eq!(schedule(&snapshot, &waiting, 0).unwrap(), "a");
    let mut leaving = on("a", "x", 1, "2");
    leaving.terminating = true;
    leaving.preempted = true;
    snapshot.set_pod(leaving);
    expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node."]
        .assert_eq(&told(&snapshot, &waiting));
}
