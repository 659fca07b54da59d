//! Plug-ins about where pods go and what their nodes can do; events and images.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use machinery::ApiError;
use serde_json::{Value, json};

use super::super::event_rate_limit::{self, Enforcers};
use super::super::image_policy::{self, Answer};
use super::super::{
    Settings, node_declared_features, pod_node_selector, pod_resize, pod_toleration_restriction,
};
use super::{Case, Cluster, create, object};
use crate::User;
use crate::admission::Operation;

fn cluster() -> Cluster {
    let objects = [
        (
            "nodes//small",
            json!({"metadata": {"name": "small", "labels": {"kubernetes.io/os": "linux"}},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}, "declaredFeatures": ["InPlacePodVerticalScalingInitContainers"]}}),
        ),
        (
            "nodes//windows",
            json!({"metadata": {"name": "windows", "labels": {"kubernetes.io/os": "windows"}}}),
        ),
        ("namespaces//free", json!({"metadata": {"name": "free"}})),
        (
            "namespaces//ns",
            json!({"metadata": {"name": "ns", "annotations": {
                "scheduler.alpha.kubernetes.io/node-selector": "env=test, zone=a",
                "scheduler.alpha.kubernetes.io/defaultTolerations": r#"[{"key": "own", "operator": "Exists"}]"#,
                "scheduler.alpha.kubernetes.io/tolerationsWhitelist": r#"[{"key": "own", "operator": "Exists"}, {"key": "x", "operator": "Equal", "value": "y"}]"#}}}),
        ),
        (
            "namespaces//odd",
            json!({"metadata": {"name": "odd", "annotations": {
                "scheduler.alpha.kubernetes.io/node-selector": "env=a=b",
                "scheduler.alpha.kubernetes.io/tolerationsWhitelist": ""}}}),
        ),
    ];
    Cluster(
        objects
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Arc::new(object(v))))
            .collect(),
    )
}

fn told(result: Result<(), ApiError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            let causes = error.details.as_ref().map(|d| d.causes.clone());
            let causes = causes.unwrap_or_default();
            let causes: Vec<&str> = causes.iter().map(|c| c.0.as_str()).collect();
            format!("{} {} {}", error.code, error.message, causes.join(","))
        }
    }
}

fn pod(node: &str, cpu: &str, init_cpu: &str) -> Value {
    json!({"metadata": {"name": "it"}, "spec": {"nodeName": node,
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": init_cpu}}}],
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}],
        "overhead": {"cpu": "100m"}}})
}

fn resize(old: Value, new: Value) -> [String; 2] {
    let case = Case {
        user: User::new("alice", &[]),
        operation: Operation::Update,
        what: "pods/resize",
        namespace: "ns",
        name: "it",
        old: Some(object(old)),
    };
    let new = object(new);
    case.with(|request| {
        [pod_resize::validate, node_declared_features::validate]
            .map(|validate| told(validate(request, &new, &cluster())))
    })
}

#[test]
fn a_pod_grows_no_further_than_its_node() {
    let check = |old, new, expected: [Expect; 2]| {
        let said = resize(old, new);
        for (expected, said) in expected.iter().zip(said) {
            expected.assert_eq(&said);
        }
    };
    let old = || pod("small", "500m", "100m");
    check(
        old(),
        pod("small", "900m", "100m"),
        [expect!["ok"], expect!["ok"]],
    );
    check(
        old(),
        pod("small", "950m", "100m"),
        [
            expect![[
                r#"403 pods "it" is forbidden: node didn't have enough allocatable resources: cpu, requested: 1050, allocatable: 1000 NodeCapacity"#
            ]],
            expect!["ok"],
        ],
    );
    check(
        old(),
        pod("small", "500m", "200m"),
        [expect!["ok"], expect!["ok"]],
    );
    check(
        pod("windows", "500m", "100m"),
        pod("windows", "500m", "200m"),
        [
            expect![[
                r#"403 pods "it" is forbidden: pod resize is only supported on linux nodes, node "windows" is "windows" UnsupportedPlatform"#
            ]],
            expect![[
                r#"403 pods "it" is forbidden: pod update requires features InPlacePodVerticalScalingInitContainers which are not available on node "windows" "#
            ]],
        ],
    );
    let mut whole = pod("small", "500m", "100m");
    whole["spec"]["resources"] = json!({"requests": {"cpu": "600m"}});
    check(
        old(),
        whole,
        [
            expect!["ok"],
            expect![[
                r#"403 pods "it" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node "small" "#
            ]],
        ],
    );
    check(
        pod("gone", "500m", "100m"),
        pod("gone", "600m", "100m"),
        [
            expect![[r#"403 pods "it" is forbidden: node "gone" not found "#]],
            expect!["ok"],
        ],
    );
}

#[test]
fn a_namespace_names_the_nodes_of_its_pods() {
    let settings = Settings {
        node_selectors: pod_node_selector::read(&json!({"podNodeSelectorPluginConfig": {
            "clusterDefaultNodeSelector": "all=yes", "ns": "env=test,zone=a,disk=ssd"}})),
        ..Settings::default()
    };
    let admit = |namespace: &str, selector: Value| {
        let mut pod =
            object(json!({"metadata": {"name": "it"}, "spec": {"nodeSelector": selector}}));
        let case = create("pods", namespace);
        let result = case.under(&settings, |request| {
            pod_node_selector::admit(request, &mut pod, &cluster())
        });
        match result {
            Ok(()) => pod
                .at(&["spec", "nodeSelector"])
                .cloned()
                .unwrap_or_default()
                .to_string(),
            result => told(result),
        }
    };
    expect![[r#"{"all":"yes","mine":"x"}"#]].assert_eq(&admit("free", json!({"mine": "x"})));
    expect![[r#"{"disk":"ssd","env":"test","zone":"a"}"#]]
        .assert_eq(&admit("ns", json!({"disk": "ssd"})));
    expect![[r#"403 pods "it" is forbidden: pod node label selector conflicts with its namespace node label selector "#]]
        .assert_eq(&admit("ns", json!({"zone": "b"})));
    expect![[r#"403 pods "it" is forbidden: pod node label selector labels conflict with its namespace whitelist "#]]
        .assert_eq(&admit("ns", json!({"mine": "x"})));
    expect![["500 invalid selector: [env a b] "]].assert_eq(&admit("odd", json!({})));
}

#[test]
fn a_namespace_says_what_its_pods_tolerate() {
    let settings = Settings {
        tolerations: pod_toleration_restriction::Configuration::read(&json!({
            "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration",
            "default": [{"key": "all", "operator": "Exists"}],
            "whitelist": [{"key": "all", "operator": "Exists"}]}))
        .expect("good"),
        ..Settings::default()
    };
    let admit = |namespace: &str, tolerations: Value, cpu: &str| {
        let mut pod = object(
            json!({"metadata": {"name": "it"}, "spec": {"tolerations": tolerations,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}),
        );
        let case = create("pods", namespace);
        let result = case.under(&settings, |request| {
            pod_toleration_restriction::admit(request, &mut pod, &cluster())
        });
        match result {
            Ok(()) => pod
                .at(&["spec", "tolerations"])
                .cloned()
                .unwrap_or_default()
                .to_string(),
            result => told(result),
        }
    };
    expect![[r#"[{"key":"all","operator":"Exists"}]"#]].assert_eq(&admit(
        "free",
        json!([{"key": "all", "operator": "Equal", "value": "1"}]),
        "0",
    ));
    expect!["500 pod tolerations (possibly merged with namespace default tolerations) conflict with its cluster whitelist "]
        .assert_eq(&admit("free", json!([{"key": "other", "operator": "Exists"}]), "0"));
    expect![[r#"[{"key":"x","operator":"Equal","value":"y"},{"key":"own","operator":"Exists"}]"#]]
        .assert_eq(&admit(
            "ns",
            json!([{"key": "x", "operator": "Equal", "value": "y"}]),
            "0",
        ));
    expect!["500 pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist "]
        .assert_eq(&admit("ns", json!([{"key": "x", "operator": "Exists"}]), "0"));
    // Of a better class than best effort: it stays when memory gets short; an empty list allows anything.
    expect![[r#"[{"key":"all","operator":"Exists"},{"effect":"NoSchedule","key":"node.kubernetes.io/memory-pressure","operator":"Exists"}]"#]]
        .assert_eq(&admit("odd", json!([]), "1"));
    let wrong = json!({"apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration",
        "default": [{"key": "a b", "operator": "Exists"}]});
    let why = pod_toleration_restriction::Configuration::read(&wrong).expect_err("refused");
    assert!(
        why.starts_with("invalid config: podtolerationrestriction.default[0].key: Invalid value"),
        "{why}"
    );
}

#[test]
fn events_come_no_faster_than_their_limits() {
    let limits = event_rate_limit::read(&json!({
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration", "limits": [
            {"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 1},
            {"type": "SourceAndObject", "qps": 10, "burst": 10}]}))
    .expect("good");
    let mut enforcers = Enforcers::new(&limits);
    let event = object(
        json!({"source": {"component": "kubelet"}, "involvedObject": {"kind": "Pod", "name": "p"}}),
    );
    let mut send = |namespace: &str, seconds: u64| {
        let case = create("events", namespace);
        case.with(|request| told(enforcers.accept(request, &event, Duration::from_secs(seconds))))
    };
    assert_eq!([send("a", 0), send("a", 0)], ["ok", "ok"]);
    expect!["429 Too many requests: limit reached on type Namespace for key a "]
        .assert_eq(&send("a", 0));
    assert_eq!(send("a", 1), "ok");
    assert_ne!(send("a", 1), "ok");
    // Only one namespace is remembered: the other one's bucket is forgotten, and full again.
    assert_eq!(
        [send("b", 1), send("a", 1), send("a", 1)],
        ["ok", "ok", "ok"]
    );
    for _ in 0..8 {
        send("c", 1);
    }
    expect!["429 Too many requests: [limit reached on type Namespace for key c, limit reached on type SourceAndObject for key kubeletPodp] "]
        .assert_eq(&send("c", 1));
}

#[test]
fn somebody_else_is_asked_about_images() {
    let pod = object(json!({"metadata": {"name": "it", "annotations": {
            "mycluster.image-policy.k8s.io/ticket-1234": "break-glass", "other": "x"}},
        "spec": {"initContainers": [{"name": "i", "image": "a"}], "containers": [{"name": "c", "image": "b"}],
            "ephemeralContainers": [{"name": "e", "image": "d"}]}}));
    let ask = |what| create(what, "ns").with(|request| image_policy::question(request, &pod));
    expect![[r#"{"annotations":{"mycluster.image-policy.k8s.io/ticket-1234":"break-glass"},"containers":[{"image":"b"},{"image":"a"}],"namespace":"ns"}"#]]
        .assert_eq(&ask("pods").expect("a question").to_string());
    let other = ask("pods/ephemeralcontainers").expect("a question");
    assert_eq!(other["containers"], json!([{"image": "d"}]));
    assert_eq!((ask("pods/status"), ask("services")), (None, None));
    let answer = |status: Value| {
        let body = json!({"status": status}).to_string();
        Answer::read(body.as_bytes()).expect("an answer").refusal()
    };
    assert_eq!(answer(json!({"allowed": true})), None);
    expect!["image policy webhook backend denied one or more images: no"]
        .assert_eq(&answer(json!({"reason": "no"})).expect("refused"));
    expect!["one or more images rejected by webhook backend"]
        .assert_eq(&answer(Value::Null).expect("refused"));
}
