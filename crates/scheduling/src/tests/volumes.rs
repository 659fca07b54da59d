//! Pods with claims.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{node, pod};
use crate::{PodInfo, Snapshot, schedule, volume_plan};

fn cluster(objects: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for name in ["a", "b"] {
        let zone =
            json!({"metadata": {"labels": {"topology.kubernetes.io/zone": format!("z{name}")}}});
        snapshot.set_node(&node(name, zone));
    }
    for object in objects {
        let name = object["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let storage = &mut snapshot.storage;
        let parse = |why| panic!("{object}: {why}");
        match object["kind"].as_str().expect("a kind") {
            "PersistentVolumeClaim" => {
                let claim = serde_json::from_value(object.clone()).unwrap_or_else(parse);
                storage.set_claim(("default".into(), name), Some(Arc::new(claim)));
            }
            "PersistentVolume" => {
                let volume = serde_json::from_value(object.clone());
                let volume = volume.unwrap_or_else(|why| panic!("{object}: {why}"));
                storage.set_volume(&name, Some(Arc::new(volume)));
            }
            "StorageClass" => {
                let class = serde_json::from_value(object.clone());
                let class = class.unwrap_or_else(|why| panic!("{object}: {why}"));
                storage.set_class(&name, Some(Arc::new(class)));
            }
            _ => {
                let csi = serde_json::from_value(object.clone());
                let csi = csi.unwrap_or_else(|why| panic!("{object}: {why}"));
                storage.set_csi_node(&name, Some(Arc::new(csi)));
            }
        }
    }
    snapshot
}

fn claim(name: &str, class: &str, volume: &str) -> Value {
    let mut claim = json!({"kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
    if !volume.is_empty() {
        claim["spec"]["volumeName"] = volume.into();
        claim["status"]["phase"] = "Bound".into();
        claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    }
    claim
}

fn volume(name: &str, host: &str, class: &str) -> Value {
    json!({"kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}},
        "status": {"phase": "Available"}})
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"kind": "StorageClass", "metadata": {"name": name}, "provisioner": provisioner,
        "volumeBindingMode": mode})
}

fn user(name: &str, claims: &[&str]) -> PodInfo {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}}))
        .collect();
    pod(name, json!({"volumes": volumes}))
}

fn check(snapshot: &Snapshot, pod: &PodInfo, expect: Expect) {
    let text = match schedule(snapshot, pod, 0) {
        Ok(node) => {
            let plan = volume_plan(snapshot, pod, &node);
            let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
                meta.name.clone().unwrap_or_default()
            };
            let bound = plan.bindings.iter();
            let bound = bound.map(|(c, v)| format!(" {}={}", name(&c.metadata), name(&v.metadata)));
            let made = plan
                .provisions
                .iter()
                .map(|c| format!(" {}+", name(&c.metadata)));
            node + &bound.chain(made).collect::<String>()
        }
        Err(why) => why.to_string(),
    };
    expect.assert_eq(&text);
}

#[test]
fn claims_that_cannot_be_used_hold_the_pod() {
    let none = cluster(&[]);
    check(
        &none,
        &user("p", &["data"]),
        expect![[r#"0/2 nodes are available: persistentvolumeclaim "data" not found."#]],
    );
    let unbound = cluster(&[claim("data", "now", ""), class("now", "x", "Immediate")]);
    check(
        &unbound,
        &user("p", &["data"]),
        expect!["0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."],
    );
    let ephemeral = pod(
        "p",
        json!({"volumes": [{"name": "scratch", "ephemeral": {}}]}),
    );
    check(
        &none,
        &ephemeral,
        expect![[
            r#"0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"."#
        ]],
    );
    let mut leaving = claim("data", "now", "disk");
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    check(
        &cluster(&[leaving]),
        &user("p", &["data"]),
        expect![[r#"0/2 nodes are available: persistentvolumeclaim "data" is being deleted."#]],
    );
}

#[test]
fn a_bound_claim_draws_the_pod_to_its_volume() {
    let there = cluster(&[claim("data", "", "disk"), volume("disk", "b", "")]);
    check(&there, &user("p", &["data"]), expect!["b"]);
    let nowhere = cluster(&[claim("data", "", "disk"), volume("disk", "c", "")]);
    check(
        &nowhere,
        &user("p", &["data"]),
        expect![
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
        ],
    );
    let lost = cluster(&[claim("data", "", "disk")]);
    check(
        &lost,
        &user("p", &["data"]),
        expect![
            "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
        ],
    );
}

#[test]
fn a_waiting_claim_finds_a_volume_or_a_provisioner() {
    const WAIT: &str = "WaitForFirstConsumer";
    let by_hand = class("late", "kubernetes.io/no-provisioner", WAIT);
    let found = cluster(&[
        claim("data", "late", ""),
        by_hand.clone(),
        volume("disk", "b", "late"),
    ]);
    check(&found, &user("p", &["data"]), expect!["b data=disk"]);
    let none = cluster(&[claim("data", "late", ""), by_hand]);
    check(
        &none,
        &user("p", &["data"]),
        expect![
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        ],
    );
    let made = class("late", "oxikube.io/local", WAIT);
    let mut provisioned = cluster(&[claim("data", "late", ""), made]);
    check(&provisioned, &user("p", &["data"]), expect!["a data+"]);
    // Another pod with the same claim follows the first decision.
    let first = user("p", &["data"]);
    let plan = volume_plan(&provisioned, &first, "b");
    provisioned.storage.promise(&first.key, "b", &plan);
    check(&provisioned, &user("q", &["data"]), expect!["b data+"]);
    provisioned.storage.settle(&first.key);
    check(&provisioned, &user("q", &["data"]), expect!["a data+"]);
}

#[test]
fn a_promised_volume_is_not_promised_again() {
    const WAIT: &str = "WaitForFirstConsumer";
    let by_hand = class("late", "kubernetes.io/no-provisioner", WAIT);
    let mut both = cluster(&[
        claim("one", "late", ""),
        claim("two", "late", ""),
        by_hand,
        volume("disk", "a", "late"),
    ]);
    let first = user("p", &["one"]);
    let plan = volume_plan(&both, &first, "a");
    both.storage.promise(&first.key, "a", &plan);
    check(
        &both,
        &user("q", &["two"]),
        expect![
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        ],
    );
}

#[test]
fn zones_of_volumes_count_on_nodes_that_have_zones() {
    let mut zoned = volume("disk", "a", "");
    zoned["spec"]["nodeAffinity"] = Value::Null;
    zoned["metadata"]["labels"] = json!({"failure-domain.beta.kubernetes.io/zone": "zx__zb"});
    let there = cluster(&[claim("data", "", "disk"), zoned.clone()]);
    check(&there, &user("p", &["data"]), expect!["b"]);
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "zx"});
    let there = cluster(&[claim("data", "", "disk"), zoned]);
    check(
        &there,
        &user("p", &["data"]),
        expect!["0/2 nodes are available: 2 node(s) had no available volume zone."],
    );
}

#[test]
fn a_claim_for_one_pod_is_for_one_pod() {
    let mut alone = claim("data", "", "disk");
    alone["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    let mut there = cluster(&[alone, volume("disk", "b", "")]);
    there.set_pod(user("first", &["data"]).on("b"));
    check(
        &there,
        &user("p", &["data"]),
        expect![
            "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod."
        ],
    );
}

#[test]
fn a_node_has_only_so_many_volumes_of_a_driver() {
    let disk = |name: &str| {
        let mut volume = volume(name, "a", "");
        volume["spec"]["csi"] = json!({"driver": "d", "volumeHandle": name});
        volume["spec"]["nodeAffinity"] = Value::Null;
        volume
    };
    let limit = |node: &str| {
        json!({"kind": "CSINode", "metadata": {"name": node},
            "spec": {"drivers": [{"name": "d", "nodeID": node, "allocatable": {"count": 1}}]}})
    };
    let mut full = cluster(&[
        claim("one", "", "disk-1"),
        claim("two", "", "disk-2"),
        disk("disk-1"),
        disk("disk-2"),
        limit("a"),
        limit("b"),
    ]);
    full.set_pod(user("first", &["one"]).on("a"));
    check(&full, &user("p", &["two"]), expect!["b"]);
    check(&full, &user("p", &["one"]), expect!["b"]);
    check(
        &full,
        &user("p", &["one", "two"]),
        expect!["0/2 nodes are available: 2 node(s) exceed max volume count."],
    );
}
