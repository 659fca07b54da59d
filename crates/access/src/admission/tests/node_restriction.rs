//! What nodes may do with themselves, their pods, leases, tokens and volumes.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::super::{Operation, admit};
use super::{Case, by_node, cluster, object};

/// CVE-2025-4563, CVE-2025-5187: creation is checked like updates, and so are owners.
#[test]
fn a_node_cannot_make_itself_another() {
    let new = by_node(Operation::Create, "nodes", "", "one");
    new.changes(
        json!({"metadata": {"name": "one", "labels": {"kubernetes.io/hostname": "one", "mine": "x"}}}),
        expect![[r#"
            {
              "metadata": {
                "labels": {
                  "kubernetes.io/hostname": "one",
                  "mine": "x"
                },
                "name": "one"
              },
              "spec": {
                "taints": [
                  {
                    "effect": "NoSchedule",
                    "key": "node.kubernetes.io/not-ready"
                  }
                ]
              }
            }"#]],
    );
    new.refuses(
        json!({"metadata": {"name": "one", "labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        expect![[r#"403 nodes "one" is forbidden: node "one" is not allowed to set the following labels: node-role.kubernetes.io/control-plane"#]],
    );
    new.refuses(
        json!({"metadata": {"name": "one", "ownerReferences": [{"kind": "ConfigMap"}]}}),
        expect![[
            r#"403 nodes "one" is forbidden: node "one" is not allowed to modify ownerReferences"#
        ]],
    );
    by_node(Operation::Create, "nodes", "", "two").refuses(
        json!({"metadata": {"name": "two"}}),
        expect![[
            r#"403 nodes "two" is forbidden: node "one" is not allowed to modify node "two""#
        ]],
    );
    let old = json!({"metadata": {"name": "one", "labels": {"a": "b"}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    for what in ["nodes", "nodes/status"] {
        let update = |change: &dyn Fn(&mut Value), expected: Expect| {
            let mut case = by_node(Operation::Update, what, "", "one");
            case.old = Some(object(old.clone()));
            let mut new = old.clone();
            change(&mut new);
            case.refuses(new, expected);
        };
        update(
            &|n| n["metadata"]["labels"]["a"] = "c".into(),
            expect!["ok"],
        );
        update(
            &|n| n["spec"]["taints"] = json!([]),
            expect![[
                r#"403 nodes "one" is forbidden: node "one" is not allowed to modify taints"#
            ]],
        );
        update(
            &|n| n["metadata"]["ownerReferences"] = json!([{"kind": "ConfigMap"}]),
            expect![[
                r#"403 nodes "one" is forbidden: node "one" is not allowed to modify ownerReferences"#
            ]],
        );
        update(
            &|n| n["metadata"]["labels"]["x.node-restriction.kubernetes.io/a"] = "b".into(),
            expect![[
                r#"403 nodes "one" is forbidden: is not allowed to modify labels: x.node-restriction.kubernetes.io/a"#
            ]],
        );
    }
}

#[test]
fn a_node_touches_only_its_own_pods() {
    let delete = |name| by_node(Operation::Delete, "pods", "ns", name);
    delete("mine").allows(json!({}));
    delete("other").refuses(
        json!({}),
        expect![[r#"403 pods "other" is forbidden: node "one" can only delete pods with spec.nodeName set to itself"#]],
    );
    let pod = |labels: Value| json!({"metadata": {"labels": labels}, "spec": {"nodeName": "one"}});
    let mut status = by_node(Operation::Update, "pods/status", "ns", "mine");
    status.old = Some(object(pod(json!({"a": "b"}))));
    status.allows(pod(json!({"a": "b"})));
    status.refuses(
        pod(json!({"a": "c"})),
        expect![[
            r#"403 pods "mine" is forbidden: node "one" cannot update labels through pod status"#
        ]],
    );
    by_node(Operation::Create, "pods/eviction", "ns", "other").refuses(
        json!({}),
        expect![[r#"403 pods "other" is forbidden: node one can only evict pods with spec.nodeName set to itself"#]],
    );
    by_node(Operation::Update, "pods/ephemeralcontainers", "ns", "mine").refuses(
        json!({"spec": {"serviceAccountName": "default"}}),
        expect![[r#"403 pods "mine" is forbidden: unexpected pod subresource "ephemeralcontainers", only 'status' and 'eviction' are allowed"#]],
    );
}

#[test]
fn mirror_pods_belong_to_their_node_and_reach_for_nothing() {
    let mirror = |spec: Value, owner_uid: &str| {
        json!({"metadata": {
            "name": "m", "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "one", "uid": owner_uid, "controller": true}],
        }, "spec": spec})
    };
    let new = by_node(Operation::Create, "pods", "ns", "m");
    new.allows(mirror(
        json!({"nodeName": "one", "volumes": [{"name": "h", "hostPath": {}}]}),
        "one-uid",
    ));
    new.refuses(
        mirror(json!({"nodeName": "one"}), "x"),
        expect!["403 pods \"m\" is forbidden: node one UID mismatch: expected x got one-uid"],
    );
    new.refuses(
        mirror(json!({"nodeName": "two"}), "one-uid"),
        expect![[r#"403 pods "m" is forbidden: node "one" can only create pods with spec.nodeName set to itself"#]],
    );
    new.refuses(
        mirror(json!({"nodeName": "one", "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}]}), "one-uid"),
        expect![[r#"403 pods "m" is forbidden: node "one" can not create pods that reference configmaps"#]],
    );
    new.refuses(
        mirror(
            json!({"nodeName": "one", "volumes": [{"name": "s", "secret": {"secretName": "s"}}]}),
            "one-uid",
        ),
        expect![[r#"403 pods "m" is forbidden: a mirror pod may not reference secrets"#]],
    );
    new.refuses(
        json!({"metadata": {"name": "m"}, "spec": {"nodeName": "one"}}),
        expect![[r#"403 pods "m" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "one" can only create mirror pods"#]],
    );
}

#[test]
fn a_node_gets_tokens_only_for_its_pods_and_their_audiences() {
    let token = by_node(Operation::Create, "serviceaccounts/token", "ns", "default");
    let request = |name: &str, uid: &str, audiences: Value| {
        json!({"spec": {"audiences": audiences,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}})
    };
    token.allows(request("mine", "mine-uid", json!([])));
    token.refuses(
        json!({"spec": {}}),
        expect![[
            r#"403 serviceaccounts "default" is forbidden: node requested token not bound to a pod"#
        ]],
    );
    token.refuses(
        request("other", "other-uid", json!([])),
        expect![[r#"403 serviceaccounts "default" is forbidden: node requested token bound to a pod scheduled on a different node"#]],
    );
    token.refuses(
        request("mine", "mine-uid", json!(["vault"])),
        expect![[r#"403 serviceaccounts "default" is forbidden: system:node:one is not authorized to request tokens for audience "vault""#]],
    );
}

#[test]
fn leases_carry_the_name_of_their_node() {
    let lease = |namespace| {
        by_node(
            Operation::Create,
            "leases.coordination.k8s.io",
            namespace,
            "",
        )
    };
    let named = |name: &str| json!({"metadata": {"name": name}});
    let mut cluster = cluster();
    cluster.0.insert(
        "namespaces//kube-node-lease".into(),
        Arc::new(object(json!({}))),
    );
    let run = |case: Case, value: Value| {
        let mut object = object(value);
        case.with(|r| admit(r, &mut object, &cluster, |_, _| {}))
            .map_err(|e| e.message)
    };
    assert_eq!(run(lease("kube-node-lease"), named("one")), Ok(()));
    expect![[r#"leases.coordination.k8s.io "two" is forbidden: can only access node lease with the same name as the requesting node"#]]
        .assert_eq(&run(lease("kube-node-lease"), named("two")).expect_err("refused"));
    expect![[r#"leases.coordination.k8s.io "one" is forbidden: can only access leases in the "kube-node-lease" system namespace"#]]
        .assert_eq(&run(lease("ns"), named("one")).expect_err("refused"));
}

/// A local volume on a node, with its finalizers.
fn local_volume(node: &str, finalizers: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pvc-1", "finalizers": finalizers,
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"pv.kubernetes.io/provisioned-by": "oxikube.io/local"}},
        "spec": {"local": {"path": "/x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
}

#[test]
fn a_node_lets_go_of_local_volumes_of_its_own_and_touches_no_others() {
    const OURS: &str = "oxikube.io/local-volume";
    let change = |old: Value, new: Value| {
        let mut case = by_node(Operation::Update, "persistentvolumes", "", "pvc-1");
        case.old = Some(object(old));
        case.run(new)
    };
    let held = json!([OURS, "example.com/other"]);
    let freed = json!(["example.com/other"]);
    let done = change(
        local_volume("one", held.clone()),
        local_volume("one", freed.clone()),
    );
    assert!(done.is_ok(), "{done:?}");
    let other = change(
        local_volume("two", held.clone()),
        local_volume("two", freed),
    );
    assert!(other.is_err());
    let all = change(
        local_volume("one", held.clone()),
        local_volume("one", json!([])),
    );
    assert!(all.is_err(), "another's finalizer was taken off");
    let mut moved = local_volume("one", json!(["example.com/other"]));
    moved["spec"]["local"]["path"] = "/etc".into();
    assert!(change(local_volume("one", held.clone()), moved).is_err());
    let mut foreign = local_volume("one", held.clone());
    foreign["metadata"]["annotations"] = json!({});
    let freed = local_volume("one", json!(["example.com/other"]));
    assert!(change(foreign, freed.clone()).is_err());
    let mut staying = local_volume("one", held);
    staying["metadata"]["deletionTimestamp"] = Value::Null;
    let mut freed = freed;
    freed["metadata"]["deletionTimestamp"] = Value::Null;
    assert!(change(staying, freed).is_err());
}

#[test]
fn a_node_asks_for_certificates_of_its_pods_alone() {
    let mut cluster = cluster();
    let mut add = |key: &str, value: Value| {
        cluster.0.insert(key.to_owned(), Arc::new(object(value)));
    };
    let projected = json!([{"name": "v", "projected": {"sources": [
        {"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "k"}}]}}]);
    for (name, node) in [("certified", "one"), ("elsewhere", "two")] {
        add(
            &format!("pods/ns/{name}"),
            json!({"metadata": {"name": name, "uid": "pod-uid"},
                "spec": {"nodeName": node, "serviceAccountName": "default", "volumes": projected}}),
        );
    }
    add(
        "serviceaccounts/ns/default",
        json!({"metadata": {"name": "default", "uid": "account-uid"}}),
    );
    let good = json!({"metadata": {"generateName": "req-"}, "spec": {
        "signerName": "a.b/c", "podName": "certified", "podUID": "pod-uid",
        "serviceAccountName": "default", "serviceAccountUID": "account-uid",
        "nodeName": "one", "nodeUID": "one-uid"}});
    let what = "podcertificaterequests.certificates.k8s.io";
    let run = |case: Case, value: &Value| {
        let mut object = object(value.clone());
        case.with(|r| admit(r, &mut object, &cluster, |_, _| {}))
            .map_err(|e| format!("{} {}", e.code, e.message))
    };
    let new = || by_node(Operation::Create, what, "ns", "");
    assert_eq!(run(new(), &good), Ok(()));
    let mut told = String::new();
    for (key, value) in [
        ("nodeName", "two"),
        ("nodeUID", "x"),
        ("podName", "nobody"),
        ("podUID", "x"),
        ("podName", "elsewhere"),
        ("serviceAccountName", "strict"),
        ("serviceAccountUID", "x"),
        ("signerName", "a.b/other"),
    ] {
        let mut wrong = good.clone();
        wrong["spec"][key] = value.into();
        let why = run(new(), &wrong).expect_err("refused");
        told.push_str(&why);
        told.push('\n');
    }
    expect![[r#"
        403 podcertificaterequests.certificates.k8s.io "req-" is forbidden: PodCertificateRequest.Spec.NodeName="two", which is not the requesting node "one"
        500 PodCertificateRequest for pod "ns/certified" names node UID "x", inconsistent with the running node ("one-uid")
        500 while retrieving pod "ns/nobody" named in the PodCertificateRequest: pod "nobody" not found
        500 PodCertificateRequest for pod "ns/certified" contains pod UID ("x") which differs from running pod "pod-uid"
        403 podcertificaterequests.certificates.k8s.io "req-" is forbidden: pod "ns/elsewhere" is not running on node "one" named in the PodCertificateRequest
        403 podcertificaterequests.certificates.k8s.io "req-" is forbidden: PodCertificateRequest for pod "ns/certified" contains serviceAccountName ("strict") that differs from running pod ("default")
        500 PodCertificateRequest for pod "ns/certified" names service account UID "x", which differs from the running service account ("account-uid")
        403 podcertificaterequests.certificates.k8s.io "req-" is forbidden: pod "ns/certified" does not mount a podCertificate projected volume for signer "a.b/other"
    "#]].assert_eq(&told);
    let mut update = by_node(Operation::Update, what, "ns", "req-a");
    update.old = Some(object(good.clone()));
    expect![[r#"403 podcertificaterequests.certificates.k8s.io "req-a" is forbidden: unexpected operation UPDATE"#]].assert_eq(&run(update, &good).expect_err("refused"));
}
