use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::ResourceQuota;

use super::{Counted, amounts};
use crate::testing::{now, object};

fn check(resource: &str, yaml: &str, expected: Expect) {
    let counted = Counted::new("", resource).unwrap();
    let item = counted.item(&object(yaml)).unwrap();
    let used = counted.usage(&item, now());
    let lines: String = used
        .iter()
        .map(|(name, n)| format!("{name}={n}\n"))
        .collect();
    expected.assert_eq(&lines);
}

const POD: &str = "{spec: {overhead: {cpu: 10m}, initContainers: [{name: i, resources: {requests: {cpu: 3, example.com/gpu: 1}}}],
    containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2}}}, {name: b, resources: {requests: {cpu: 500m}}}]}}";

#[test]
fn a_pod_uses_what_its_containers_request() {
    check(
        "pods",
        POD,
        expect![[r#"
            count/pods=1
            cpu=3010m
            limits.cpu=2010m
            memory=1Gi
            pods=1
            requests.cpu=3010m
            requests.example.com/gpu=1
            requests.memory=1Gi
        "#]],
    );
    let ended = POD.replacen('{', "{status: {phase: Failed}, ", 1);
    check(
        "pods",
        &ended,
        expect![[r#"
        count/pods=1
    "#]],
    );
}

#[test]
fn services_and_claims_are_measured() {
    check(
        "services",
        "{spec: {type: LoadBalancer, ports: [{port: 1}, {port: 2}]}}",
        expect![[r#"
            count/services=1
            services=1
            services.loadbalancers=1
            services.nodeports=2
        "#]],
    );
    check(
        "persistentvolumeclaims",
        "{spec: {storageClassName: fast, resources: {requests: {storage: 1500m}}}}",
        expect![[r#"
            count/persistentvolumeclaims=1
            fast.storageclass.storage.k8s.io/persistentvolumeclaims=1
            fast.storageclass.storage.k8s.io/requests.storage=2
            persistentvolumeclaims=1
            requests.storage=2
        "#]],
    );
}

#[test]
fn names_lead_to_the_resources_they_measure() {
    let of = |name: &str| Counted::by(name).map(|c| c.count_name());
    let names = [
        "cpu",
        "hugepages-2Mi",
        "requests.example.com/gpu",
        "services.nodeports",
        "gold.storageclass.storage.k8s.io/requests.storage",
        "secrets",
        "count/deployments.apps",
        "count/events",
        "nonsense",
    ];
    let found: Vec<String> = names.iter().map(|n| of(n).unwrap_or_default()).collect();
    expect!["count/pods count/pods count/pods count/services count/persistentvolumeclaims count/secrets count/deployments.apps  "]
        .assert_eq(&found.join(" "));
}

#[test]
fn a_quota_covers_what_is_in_all_its_scopes() {
    let covers = |spec: &str, pod: &str| {
        let quota = object(&format!(
            "{{kind: ResourceQuota, apiVersion: v1, spec: {{hard: {{pods: 1}}, {spec}}}}}"
        ));
        let quota: ResourceQuota = quota.view().unwrap();
        let hard = amounts(quota.spec.as_ref().unwrap().hard.as_ref());
        let counted = Counted::new("", "pods").unwrap();
        counted.is_covered(&counted.item(&object(pod)).unwrap(), &quota, &hard)
    };
    assert!(covers("scopes: []", POD));
    assert!(covers("scopes: [NotTerminating, NotBestEffort]", POD));
    assert!(!covers("scopes: [BestEffort]", POD));
    let high = "scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}";
    assert!(!covers(high, POD));
    assert!(covers(
        high,
        "{spec: {containers: [], priorityClassName: high}}"
    ));
}
