//! The defaults against a live cluster's, and reconciliation.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::expect;
use machinery::Object;
use serde_json::{Value, json};

use super::{Write, policy, reconcile};
use crate::rbac::Index;
use crate::{Attributes, Authorizer, User};

/// What a live cluster of the version before had, if the reference data is there.
fn live(resource: &str) -> Option<BTreeMap<String, Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let file = root.join(format!("live-1.36.2/objects_{resource}.json"));
    let list: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).expect("JSON");
    let items = list["items"].as_array().expect("items").iter();
    let item = |o: &Value| {
        let name = [&o["metadata"]["namespace"], &o["metadata"]["name"]];
        let name = name
            .map(|n| n.as_str().unwrap_or_default().to_owned())
            .join("/");
        (name, o.clone())
    };
    Some(items.map(item).collect())
}

/// Names of the defaults of one kind that differ from the live cluster's in any part that policy has.
fn differences(kind: &str, resource: &str) -> Option<Vec<String>> {
    let mut live = live(resource)?;
    let mut out = Vec::new();
    for object in policy().iter().filter(|o| o.kind() == kind) {
        let name = format!("{}/{}", object.namespace(), object.name());
        let Some(theirs) = live.remove(&name) else {
            out.push(format!("new {name}"));
            continue;
        };
        let gathers = object.0.contains_key("aggregationRule");
        let parts = ["rules", "subjects", "roleRef", "aggregationRule"];
        let differs = parts.iter().any(|part| {
            let (ours, theirs) = (object.0.get(*part), theirs.get(*part));
            // The rules of an aggregate are the aggregation controller's work.
            !(gathers && *part == "rules") && ours != theirs
        });
        let labels = object.at(&["metadata", "labels"]) == theirs["metadata"].get("labels");
        if differs || !labels {
            out.push(format!("changed {name}"));
        }
    }
    out.extend(live.into_keys().map(|name| format!("gone {name}")));
    Some(out)
}

#[test]
fn policy_differs_from_the_version_before_only_where_that_version_did() {
    let mut all = Vec::new();
    for (kind, resource) in [
        ("Role", "roles"),
        ("RoleBinding", "rolebindings"),
        ("ClusterRole", "clusterroles"),
        ("ClusterRoleBinding", "clusterrolebindings"),
    ] {
        let Some(differences) = differences(kind, resource) else {
            return;
        };
        all.extend(
            differences
                .into_iter()
                .map(|difference| format!("{kind} {difference}\n")),
        );
    }
    expect![[r#"
        ClusterRole new /system:cluster-trust-bundle-discovery
        ClusterRole changed /system:kube-scheduler
        ClusterRole changed /system:node
        ClusterRole new /system:validatingadmissionpolicy-type-checker
        ClusterRole changed /system:controller:device-taint-eviction-controller
        ClusterRole changed /system:controller:endpointslice-controller
        ClusterRole changed /system:controller:endpointslicemirroring-controller
        ClusterRole new /system:controller:kube-apiserver-serving-clustertrustbundle-publisher
        ClusterRole changed /system:controller:node-controller
        ClusterRole new /system:controller:local-volume-provisioner
        ClusterRole new /system:controller:podcertificaterequestcleaner
        ClusterRole new /system:controller:storage-version-migrator-controller
        ClusterRole gone /system:controller:service-ca-cert-publisher
        ClusterRole gone /system:openshift:public-info-viewer
        ClusterRoleBinding new /system:cluster-trust-bundle-discovery
        ClusterRoleBinding new /system:validatingadmissionpolicy-type-checker
        ClusterRoleBinding new /system:controller:kube-apiserver-serving-clustertrustbundle-publisher
        ClusterRoleBinding new /system:controller:local-volume-provisioner
        ClusterRoleBinding new /system:controller:podcertificaterequestcleaner
        ClusterRoleBinding new /system:controller:storage-version-migrator-controller
        ClusterRoleBinding gone /system:controller:service-ca-cert-publisher
        ClusterRoleBinding gone /system:openshift:public-info-viewer
    "#]]
    .assert_eq(&all.concat());
}

#[test]
fn components_may_do_their_work_and_no_more() {
    let mut index = Index::default();
    policy().iter().for_each(|object| index.apply(object));
    let may = |user: &User, verb: &str, group: &str, resource: &str| {
        let user = user.clone().authenticated();
        index
            .authorize(&Attributes::resource(&user, verb, group, resource))
            .is_allowed()
    };
    let scheduler = User::new("system:kube-scheduler", &[]);
    assert!(may(&scheduler, "list", "", "nodes"));
    assert!(!may(&scheduler, "list", "", "secrets"));
    let replicasets = User::service_account("kube-system", "replicaset-controller", "");
    assert!(may(&replicasets, "create", "", "pods"));
    assert!(!may(&replicasets, "create", "apps", "deployments"));
    let nobody = User::new("nobody", &[]);
    let can_i = "selfsubjectaccessreviews";
    assert!(may(&nobody, "create", "authorization.k8s.io", can_i));
    let path = |user: &User, path| {
        index
            .authorize(&Attributes::path(user, "get", path))
            .is_allowed()
    };
    assert!(path(&User::anonymous(), "/version"));
    assert!(!path(&User::anonymous(), "/apis"));
    assert!(path(&nobody.authenticated(), "/apis/apps"));
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

#[test]
fn reconciliation_adds_what_is_missing_and_takes_nothing_away() {
    let wanted = policy()
        .into_iter()
        .find(|o| o.name() == "system:kube-dns")
        .expect("the role");
    assert_eq!(
        reconcile(None, &wanted),
        Some(Write::Create(wanted.clone()))
    );
    assert_eq!(reconcile(Some(&wanted), &wanted), None);

    let mut edited = wanted.clone();
    edited.0.insert(
        "rules".into(),
        json!([{"apiGroups": [""], "resources": ["services", "pods"], "verbs": ["list", "watch"]}]),
    );
    let Some(Write::Update(merged)) = reconcile(Some(&edited), &wanted) else {
        panic!("an update")
    };
    expect![[r#"[{"apiGroups":[""],"resources":["services","pods"],"verbs":["list","watch"]},{"apiGroups":[""],"resources":["endpoints"],"verbs":["list"]},{"apiGroups":[""],"resources":["endpoints"],"verbs":["watch"]}]"#]]
        .assert_eq(&merged.0["rules"].to_string());
    assert_eq!(reconcile(Some(&merged), &wanted), None, "a fixpoint");

    edited
        .object_at_mut(&["metadata", "annotations"])
        .insert(super::AUTO_UPDATE.into(), "false".into());
    assert_eq!(reconcile(Some(&edited), &wanted), None, "protected");
}

#[test]
fn a_binding_to_another_role_is_made_anew() {
    let wanted = policy();
    let wanted = wanted
        .iter()
        .find(|o| o.kind() == "ClusterRoleBinding" && o.name() == "cluster-admin")
        .expect("the binding");
    let mut other = wanted.clone();
    other.set_meta_str("uid", "u");
    other.0.insert(
        "roleRef".into(),
        json!({"apiGroup": "", "kind": "ClusterRole", "name": "view"}),
    );
    let write = reconcile(Some(&other), wanted);
    assert_eq!(
        write,
        Some(Write::Recreate {
            uid: "u".into(),
            object: wanted.clone()
        })
    );
    let namespace =
        object(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x"}}));
    assert_eq!(reconcile(Some(&namespace), &super::namespaces()[0]), None);
}

/// An object as `v1.37.txt` writes it: a line that names it, and sorted lines of what it says.
fn written(object: &Object) -> (String, Vec<String>) {
    let mut head = format!("{} {}/{}", object.kind(), object.namespace(), object.name());
    let mut labels: Vec<_> = object.labels().collect();
    labels.sort_unstable();
    for (key, value) in labels {
        head.push_str(&format!(" {key}={value}"));
    }
    let items = |key: &str| object.0.get(key).and_then(Value::as_array).cloned();
    let mut lines: Vec<String> = items("rules")
        .unwrap_or_default()
        .iter()
        .map(rule)
        .collect();
    if let Some(aggregation) = object.0.get("aggregationRule") {
        let all = aggregation["clusterRoleSelectors"].as_array().cloned();
        lines = all.unwrap_or_default().iter().map(gathers).collect();
    }
    if let Some(role) = object.0.get("roleRef") {
        let text = |key: &str| role[key].as_str().unwrap_or_default();
        lines.push(format!("  role {}/{}", text("kind"), text("name")));
    }
    for subject in items("subjects").unwrap_or_default() {
        let text = |key: &str| subject[key].as_str().unwrap_or_default();
        let (kind, namespace, name) = (text("kind"), text("namespace"), text("name"));
        lines.push(format!("  subject {kind} {namespace}/{name}"));
    }
    lines.sort();
    (head, lines)
}

fn rule(rule: &Value) -> String {
    let parts = [
        ("verbs", "verbs"),
        ("groups", "apiGroups"),
        ("resources", "resources"),
        ("names", "resourceNames"),
        ("paths", "nonResourceURLs"),
    ];
    let mut out = " ".to_owned();
    for (name, key) in parts {
        let all = rule[key].as_array().into_iter().flatten();
        let all: Vec<&str> = all
            .map(|one| match one.as_str() {
                Some("") => "core",
                other => other.unwrap_or_default(),
            })
            .collect();
        if !all.is_empty() {
            out.push_str(&format!(" {name}={}", all.join(",")));
        }
    }
    out
}

fn gathers(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    format!("  gathers {}", labels.join(","))
}

/// What a server of v1.37 with nothing switched on or off has by itself, written down once.
#[test]
fn policy_is_that_of_the_version_but_for_what_is_listed() {
    let mut theirs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut head = String::new();
    for line in include_str!("v1.37.txt").lines() {
        match line.starts_with(' ') {
            true => theirs.get_mut(&head).expect("a head").push(line.to_owned()),
            false => {
                line.clone_into(&mut head);
                theirs.insert(head.clone(), Vec::new());
            }
        }
    }
    let mut out = String::new();
    for object in policy() {
        let (head, lines) = written(&object);
        let Some(expected) = theirs.remove(&head) else {
            out.push_str(&format!("+ {head}\n"));
            continue;
        };
        let missing = expected.iter().filter(|line| !lines.contains(line));
        let missing = missing.map(|line| format!("- {head}:{line}\n"));
        let further = lines.iter().filter(|line| !expected.contains(line));
        let further = further.map(|line| format!("+ {head}:{line}\n"));
        missing.chain(further).for_each(|line| out.push_str(&line));
    }
    for head in theirs.into_keys() {
        out.push_str(&format!("- {head}\n"));
    }
    expect![[r#"
        + ClusterRole /system:validatingadmissionpolicy-type-checker kubernetes.io/bootstrapping=rbac-defaults
        + ClusterRole /system:controller:local-volume-provisioner kubernetes.io/bootstrapping=rbac-defaults
        + ClusterRoleBinding /system:validatingadmissionpolicy-type-checker kubernetes.io/bootstrapping=rbac-defaults
        + ClusterRoleBinding /system:controller:local-volume-provisioner kubernetes.io/bootstrapping=rbac-defaults
    "#]].assert_eq(&out);
}

/// 2021-25740: who may edit a namespace does not send the traffic of its load balancers elsewhere.
#[test]
fn cve_2021_25740_editors_write_no_endpoints() {
    let roles = policy();
    let mut roles = roles.iter();
    let edit = roles
        .find(|o| o.name() == "system:aggregate-to-edit")
        .expect("the role");
    for rule in edit.0["rules"].as_array().expect("rules") {
        let has = |key: &str, text: &str| {
            let mut all = rule[key].as_array().into_iter().flatten();
            all.any(|one| one == text || one == "*")
        };
        let endpoints = has("resources", "endpoints") || has("resources", "endpointslices");
        let writes = ["create", "update", "patch"]
            .iter()
            .any(|verb| has("verbs", verb));
        assert!(!(endpoints && writes), "{rule}");
    }
}
