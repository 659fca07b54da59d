//! Plug-ins that an operator must name, and those that put labels on what they admit.

use expect_test::{Expect, expect};
use machinery::ApiError;
use serde_json::{Value, json};

use super::super::{
    certificates, deny_service_external_ips, owner_references, pod_rules, pod_topology_labels,
};
use super::{Case, Cluster, cluster, create, object};
use crate::admission::{Operation, Request};
use crate::{Lookup, User};

type Validate = fn(&Request, &machinery::Object, &dyn Lookup) -> Result<(), ApiError>;

fn says(case: &Case, validate: Validate, value: Value, expected: Expect) {
    let (cluster, object) = (cluster(), object(value));
    let result = case.with(|request| validate(request, &object, &cluster));
    let text = result.map_or_else(
        |e| format!("{} {}", e.code, e.message),
        |()| "ok".to_owned(),
    );
    expected.assert_eq(&text);
}

fn update<'a>(what: &'a str, old: Value) -> Case<'a> {
    Case {
        user: User::new("alice", &[]),
        operation: Operation::Update,
        what,
        namespace: "ns",
        name: "it",
        old: Some(object(old)),
    }
}

#[test]
fn owners_wait_only_for_who_may_finalize_them() {
    let owned = |kind: &str, blocks: bool| {
        json!({"metadata": {"name": "it", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "u", "blockOwnerDeletion": blocks}]}})
    };
    let case = create("pods", "ns");
    says(
        &case,
        owner_references::validate,
        owned("ReplicaSet", false),
        expect!["ok"],
    );
    says(
        &case,
        owner_references::validate,
        owned("ReplicaSet", true),
        expect![[
            r#"403 pods "it" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"#
        ]],
    );
    says(
        &case,
        owner_references::validate,
        owned("Nothing", true),
        expect![[
            r#"403 pods "it" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion apps/v1 Kind Nothing: no matches for kind "Nothing" in version "apps/v1""#
        ]],
    );
    let case = update("pods", owned("ReplicaSet", true));
    says(
        &case,
        owner_references::validate,
        owned("ReplicaSet", true),
        expect!["ok"],
    );
    says(
        &case,
        owner_references::validate,
        json!({"metadata": {"name": "it"}}),
        expect![[
            r#"403 pods "it" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>"#
        ]],
    );
}

#[test]
fn external_addresses_are_kept_but_not_taken() {
    let service = |ips: &[&str]| json!({"metadata": {"name": "it"}, "spec": {"externalIPs": ips}});
    let validate = deny_service_external_ips::validate;
    says(
        &create("services", "ns"),
        validate,
        service(&[]),
        expect!["ok"],
    );
    says(
        &create("services", "ns"),
        validate,
        service(&["1.2.3.4"]),
        expect![[
            r#"403 services "it" is forbidden: Use of external IPs is denied by admission control"#
        ]],
    );
    let case = update("services", service(&["1.2.3.4", "1.2.3.5"]));
    says(&case, validate, service(&["1.2.3.5"]), expect!["ok"]);
    says(
        &case,
        validate,
        service(&["1.2.3.6"]),
        expect![[
            r#"403 services "it" is forbidden: Use of external IPs is denied by admission control"#
        ]],
    );
}

#[test]
fn anti_affinity_is_between_nodes() {
    let pod = |key: &str| {
        json!({"metadata": {"name": "it"}, "spec": {"affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}})
    };
    let case = create("pods", "ns");
    says(
        &case,
        pod_rules::hard_anti_affinity,
        pod("kubernetes.io/hostname"),
        expect!["ok"],
    );
    says(
        &case,
        pod_rules::hard_anti_affinity,
        pod("zone"),
        expect![[
            r#"403 pods "it" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed"#
        ]],
    );
}

#[test]
fn images_are_pulled_always() {
    let mut pod = object(json!({"metadata": {"name": "it"}, "spec": {
        "initContainers": [{"name": "i", "image": "a"}],
        "containers": [{"name": "c", "image": "b", "imagePullPolicy": "Never"}],
        "volumes": [{"name": "v", "image": {"reference": "c"}}]}}));
    let case = create("pods", "ns");
    says(
        &case,
        pod_rules::pulls_always,
        pod.clone().into_value(),
        expect![[
            r#"403 pods "it" is forbidden: spec.initContainers[0].imagePullPolicy: Unsupported value: "": supported values: "Always""#
        ]],
    );
    let admitted = case.with(|request| pod_rules::pull_always(request, &mut pod, &cluster()));
    admitted.expect("admitted");
    says(
        &case,
        pod_rules::pulls_always,
        pod.into_value(),
        expect!["ok"],
    );
}

#[test]
fn devices_and_zones_are_known_by_their_names() {
    let mut pod = object(
        json!({"metadata": {"name": "it"}, "spec": {"nodeName": "far", "containers": [
        {"name": "c", "resources": {"requests": {"cpu": "1", "example.com/gpu": "1"}}}]}}),
    );
    let case = create("pods", "ns");
    let node = json!({"metadata": {"name": "far", "labels": {"topology.kubernetes.io/zone": "z", "other": "o"}}});
    let far = Cluster([("nodes//far".to_owned(), std::sync::Arc::new(object(node)))].into());
    case.with(|request| {
        pod_rules::tolerate_extended_resources(request, &mut pod, &far).expect("admitted");
        pod_topology_labels::admit(request, &mut pod, &far).expect("admitted");
    });
    expect![[r#"Some(Object {"topology.kubernetes.io/zone": String("z")}) Some(Array [Object {"effect": String("NoSchedule"), "key": String("example.com/gpu"), "operator": String("Exists")}])"#]].assert_eq(&format!(
        "{:?} {:?}",
        pod.at(&["metadata", "labels"]),
        pod.at(&["spec", "tolerations"])
    ));
    let mut binding = object(json!({"target": {"kind": "Node", "name": "far"}}));
    create("pods/binding", "ns").with(|request| {
        pod_topology_labels::admit(request, &mut binding, &far).expect("admitted");
    });
    assert_eq!(binding.label("topology.kubernetes.io/zone"), Some("z"));
}

#[test]
fn roots_of_a_signer_are_published_by_who_may_attest() {
    let bundle = |signer: &str| json!({"metadata": {"name": "it"}, "spec": {"signerName": signer, "trustBundle": "x"}});
    let what = "clustertrustbundles.certificates.k8s.io";
    says(
        &create(what, ""),
        certificates::attest,
        bundle(""),
        expect!["ok"],
    );
    says(
        &create(what, ""),
        certificates::attest,
        bundle("a.b/c"),
        expect![[
            r#"403 clustertrustbundles.certificates.k8s.io "it" is forbidden: user not permitted to attest for signerName "a.b/c""#
        ]],
    );
    let mut case = update(what, bundle("a.b/c"));
    case.namespace = "";
    says(&case, certificates::attest, bundle("a.b/c"), expect!["ok"]);
}
