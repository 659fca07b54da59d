//! Where pods of a kind go.

use expect_test::expect;
use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::{Value, json};

use super::{check, node, pod};
use crate::{Group, PodInfo, Snapshot, schedule};

fn zoned(name: &str, zone: &str) -> Node {
    let label = json!({"topology.kubernetes.io/zone": zone});
    node(
        name,
        json!({"metadata": {"labels": label}, "status": {"allocatable": {"pods": "20", "cpu": "20"}}}),
    )
}

fn web(name: &str, node: Option<&str>, spec: Value) -> PodInfo {
    let mut pod = pod(name, spec);
    pod.labels = [("app".to_owned(), "web".to_owned())].into();
    pod.node_name = node.map(str::to_owned);
    pod
}

fn spread(key: &str, action: &str, more: Value) -> Value {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action,
        "labelSelector": {"matchLabels": {"app": "web"}}});
    super::merge(&mut constraint, more);
    json!({"topologySpreadConstraints": [constraint]})
}

const ZONE: &str = "topology.kubernetes.io/zone";

#[test]
fn a_skew_that_is_too_great_is_refused() {
    let nodes = [
        zoned("a", "1"),
        zoned("b", "2"),
        node("c", json!({"status": {"allocatable": {"pods": "20"}}})),
    ];
    let there = [
        web("x", Some("a"), json!({})),
        web("y", Some("a"), json!({})),
        web("z", Some("b"), json!({})),
    ];
    let must = spread(ZONE, "DoNotSchedule", json!({}));
    check(&nodes, &there, &web("p", None, must.clone()), expect!["b"]);
    let mut cordoned = nodes.clone();
    cordoned[1] = node(
        "b",
        json!({"spec": {"unschedulable": true}, "metadata": {"labels": {ZONE: "2"}}}),
    );
    check(
        &cordoned,
        &there,
        &web("p", None, must),
        expect![
            "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable."
        ],
    );
    let domains = spread(ZONE, "DoNotSchedule", json!({"minDomains": 3}));
    check(
        &nodes[..2],
        &there,
        &web("p", None, domains),
        expect!["0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints."],
    );
}

#[test]
fn a_node_that_the_pod_cannot_use_counts_as_its_policy_says() {
    let nodes = [zoned("a", "1"), zoned("b", "2")];
    let there = [web("x", Some("a"), json!({}))];
    let mut wanted = spread(ZONE, "DoNotSchedule", json!({}));
    super::merge(
        &mut wanted,
        json!({"nodeSelector": {"kubernetes.io/hostname": "a"}}),
    );
    check(
        &nodes,
        &there,
        &web("p", None, wanted.clone()),
        expect!["a"],
    );
    wanted["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    check(
        &nodes,
        &there,
        &web("p", None, wanted),
        expect![
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod topology spread constraints."
        ],
    );
}

#[test]
fn pods_lie_as_evenly_as_possible() {
    let nodes = [zoned("a", "1"), zoned("b", "2"), zoned("c", "2")];
    let there = [
        web("x", Some("a"), json!({})),
        web("y", Some("b"), json!({})),
        web("z", Some("c"), json!({})),
    ];
    let should = spread(ZONE, "ScheduleAnyway", json!({}));
    check(&nodes, &there, &web("p", None, should), expect!["a"]);
}

#[test]
fn pods_of_a_service_are_spread_although_they_say_nothing() {
    let mut snapshot = Snapshot::new();
    for node in [zoned("a", "1"), zoned("b", "2")] {
        snapshot.set_node(&node);
    }
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}))
    .unwrap();
    snapshot.set_group(&Group::Service(&service), false);
    snapshot.set_pod(web("x", Some("a"), json!({})));
    for tie in 0..4 {
        assert_eq!(
            schedule(&snapshot, &web("p", None, json!({})), tie).unwrap(),
            "b"
        );
    }
}

#[test]
fn preferred_neighbours_weigh_in() {
    let nodes = [zoned("a", "1"), zoned("b", "2")];
    let term = |weight: i32| {
        json!([{"weight": weight, "podAffinityTerm": {"topologyKey": ZONE,
        "labelSelector": {"matchLabels": {"app": "web"}}}}])
    };
    let there = [web("x", Some("b"), json!({}))];
    let likes = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": term(50)}}});
    let avoids = json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": term(50)}}});
    check(&nodes, &there, &pod("p", likes), expect!["b"]);
    check(&nodes, &there, &pod("p", avoids.clone()), expect!["a"]);
    // A pod that is there has its say too.
    let mut alone = web("x", Some("b"), avoids);
    alone.labels.clear();
    check(&nodes, &[alone], &web("p", None, json!({})), expect!["a"]);
}
