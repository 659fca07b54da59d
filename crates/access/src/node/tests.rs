//! One cluster, two nodes: who may see what.

use machinery::Object;
use serde_json::{Value, json};

use super::Graph;
use crate::{Attributes, Authorizer, FieldRequirement, User};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn graph() -> Graph {
    let mut graph = Graph::default();
    graph.apply(&object(json!({
        "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
        "spec": {
            "nodeName": "one", "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "init"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}}]}],
            "ephemeralContainers": [{"name": "e", "env": [
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": "debug", "key": "k"}}}]}],
            "volumes": [
                {"name": "v", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
                {"name": "w", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "x", "ephemeral": {}},
            ],
        },
    })));
    graph.apply(&object(json!({
        "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"claimRef": {"namespace": "ns", "name": "claim"},
                 "csi": {"nodeStageSecretRef": {"namespace": "storage", "name": "stage"}}},
    })));
    graph.apply(&object(json!({
        "kind": "Pod",
        "metadata": {"name": "m", "namespace": "ns", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "two", "volumes": [{"name": "v", "secret": {"secretName": "stolen"}}]},
    })));
    graph
}

fn node(name: &str) -> User {
    User::new(&format!("system:node:{name}"), &["system:nodes"])
}

/// `verb resource[/sub] [namespace/]name`, in the core group unless `resource.group`.
fn ask(user: &User, request: &str) -> Attributes {
    let mut words = request.split(' ');
    let (verb, what) = (
        words.next().expect("a verb"),
        words.next().expect("a resource"),
    );
    let (what, sub) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let mut attributes = Attributes::resource(user, verb, group, resource);
    attributes.subresource = sub.to_owned();
    if let Some(object) = words.next() {
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        attributes.namespace = namespace.to_owned();
        attributes.name = name.to_owned();
    }
    attributes
}

fn allowed(graph: &Graph, user: &User, request: &str) -> bool {
    graph.authorize(&ask(user, request)).is_allowed()
}

#[test]
fn a_node_sees_what_its_pods_need_and_no_other_node_does() {
    let graph = graph();
    for request in [
        "get secrets ns/pull",
        "watch secrets ns/init",
        "get secrets ns/debug",
        "list secrets ns/projected",
        "get secrets storage/stage",
        "get configmaps ns/map",
        "get persistentvolumeclaims ns/claim",
        "get persistentvolumeclaims ns/p-x",
        "patch persistentvolumeclaims/status ns/claim",
        "get persistentvolumes pv",
        "create serviceaccounts/token ns/sa",
        "get serviceaccounts ns/sa",
        "get pods ns/p",
    ] {
        assert!(allowed(&graph, &node("one"), request), "{request}");
        assert!(!allowed(&graph, &node("two"), request), "{request}");
        let unproven = User::new("system:node:one", &[]);
        assert!(
            !allowed(&graph, &unproven, request),
            "{request} without the group"
        );
    }
}

#[test]
fn a_node_watches_the_local_volumes_it_holds() {
    let asks = |user: &str, selector: &str| {
        let mut attributes = ask(&node(user), "watch persistentvolumes");
        attributes.label_selector = machinery::labels::Selector::parse(selector).ok();
        graph().authorize(&attributes).is_allowed()
    };
    assert!(asks("one", "oxikube.io/node=one"));
    assert!(!asks("two", "oxikube.io/node=one"));
    assert!(!asks("one", "oxikube.io/node in (one,two)"));
    assert!(!asks("one", "oxikube.io/node!=one"));
    assert!(!allowed(&graph(), &node("one"), "list persistentvolumes"));
    assert!(!allowed(
        &graph(),
        &node("one"),
        "delete persistentvolumes pv"
    ));
    assert!(!allowed(
        &graph(),
        &node("one"),
        "patch persistentvolumes/status pv"
    ));
}

#[test]
fn a_mirror_pod_gives_its_node_nothing() {
    assert!(!allowed(&graph(), &node("two"), "get secrets ns/stolen"));
    assert!(allowed(&graph(), &node("two"), "get pods ns/m"));
}

#[test]
fn access_ends_with_the_pod() {
    let mut graph = graph();
    graph.delete("Pod", "ns", "p");
    for request in [
        "get secrets ns/pull",
        "get persistentvolumes pv",
        "get secrets storage/stage",
    ] {
        assert!(!allowed(&graph, &node("one"), request), "{request}");
    }
}

#[test]
fn what_nodes_may_do_without_relation_is_fixed() {
    let graph = graph();
    let cases = [
        ("get nodes one", true),
        ("get nodes two", false),
        ("list nodes", false),
        ("create nodes", true),
        ("patch nodes/status one", true),
        ("delete nodes one", false),
        ("list services", true),
        ("create events ns/", true),
        ("create tokenreviews.authentication.k8s.io", true),
        ("get leases.coordination.k8s.io kube-node-lease/one", true),
        (
            "update leases.coordination.k8s.io kube-node-lease/two",
            false,
        ),
        ("create leases.coordination.k8s.io kube-node-lease/", true),
        ("get leases.coordination.k8s.io kube-system/one", false),
        ("list secrets ns/", false),
        ("update secrets ns/pull", false),
        ("list pods", false),
        ("create pods ns/", true),
        ("create pods/eviction ns/p", true),
        ("get pods/log ns/p", false),
        ("list deployments.apps", false),
    ];
    for (request, expected) in cases {
        assert_eq!(
            allowed(&graph, &node("one"), request),
            expected,
            "{request}"
        );
    }
    let mut watch = ask(&node("one"), "watch pods");
    let own = FieldRequirement {
        field: "spec.nodeName".into(),
        equals: true,
        value: "one".into(),
    };
    watch.field_selector.push(own);
    assert!(graph.authorize(&watch).is_allowed());
    watch.field_selector[0].value = "two".into();
    assert!(!graph.authorize(&watch).is_allowed());
}

#[test]
fn refusals_say_why() {
    let graph = graph();
    let reason = |request| graph.authorize(&ask(&node("two"), request)).reason;
    assert_eq!(
        reason("get secrets ns/pull"),
        "no relationship found between node 'two' and this object"
    );
    assert_eq!(
        reason("list pods"),
        "can only list/watch pods with spec.nodeName field selector"
    );
}

#[test]
fn a_node_asks_for_certificates_and_sees_its_own_requests() {
    let mut graph = graph();
    graph.apply(&object(json!({
        "kind": "PodCertificateRequest", "metadata": {"name": "req-a", "namespace": "ns"},
        "spec": {"nodeName": "one"},
    })));
    const WHAT: &str = "podcertificaterequests.certificates.k8s.io";
    let may = |user: &str, verb: &str, name: &str| {
        allowed(&graph, &node(user), &format!("{verb} {WHAT} ns/{name}"))
    };
    assert!(may("one", "get", "req-a") && !may("two", "get", "req-a"));
    assert!(may("one", "create", "") && !may("one", "get", "req-b"));
    for verb in ["update", "patch", "delete", "list", "watch"] {
        assert!(!may("one", verb, "req-a"), "{verb}");
    }
    let status = format!("update {WHAT}/status ns/req-a");
    assert!(!allowed(&graph, &node("one"), &status));
    let follows = |user: &str| {
        let mut attributes = ask(&node(user), &format!("watch {WHAT}"));
        attributes.field_selector = vec![FieldRequirement {
            field: "spec.nodeName".to_owned(),
            value: "one".to_owned(),
            equals: true,
        }];
        graph.authorize(&attributes).is_allowed()
    };
    assert!(follows("one") && !follows("two"));
    graph.delete("PodCertificateRequest", "ns", "req-a");
    assert!(!allowed(
        &graph,
        &node("one"),
        &format!("get {WHAT} ns/req-a")
    ));
}
