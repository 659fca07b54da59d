//! RBAC in tables: policy in, verdict or refusal out.

use expect_test::expect;
use machinery::Object;
use serde_json::{Value, json};

use super::{Index, check_write};
use crate::{Attributes, Authorizer, Decision, Privileged, Union, User};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn cluster_role(name: &str, rules: Value) -> Object {
    object(json!({"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}))
}

fn binding(kind: &str, namespace: &str, role: &str, subjects: Value) -> Object {
    object(json!({
        "kind": kind, "metadata": {"name": format!("{role}-binding"), "namespace": namespace},
        "roleRef": {"apiGroup": super::GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }))
}

fn index() -> Index {
    let mut index = Index::default();
    for policy in [
        cluster_role(
            "reader",
            json!([
                {"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"]},
                {"nonResourceURLs": ["/healthz", "/metrics/*"], "verbs": ["get"]},
            ]),
        ),
        cluster_role(
            "one-secret",
            json!([
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["*"]},
            ]),
        ),
        binding(
            "ClusterRoleBinding",
            "",
            "reader",
            json!([{"kind": "Group", "name": "readers"}]),
        ),
        binding(
            "RoleBinding",
            "ns",
            "one-secret",
            json!([{"kind": "ServiceAccount", "name": "sa"}]),
        ),
        binding(
            "RoleBinding",
            "ns",
            "missing",
            json!([{"kind": "User", "name": "eve"}]),
        ),
    ] {
        index.apply(&policy);
    }
    index
}

fn ask(user: &User, verb: &str, what: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
    let mut attributes = Attributes::resource(user, verb, "", resource);
    attributes.subresource = sub.to_owned();
    attributes.namespace = namespace.to_owned();
    attributes.name = name.to_owned();
    attributes
}

#[test]
fn rules_match_resources_subresources_names_and_paths() {
    let index = index();
    let reader = User::new("alice", &["readers"]);
    let account = User::service_account("ns", "sa", "");
    let cases = [
        (ask(&reader, "get", "pods", "x", "p"), true),
        (ask(&reader, "get", "pods/log", "x", "p"), false),
        (ask(&reader, "get", "anything/scale", "x", "p"), true),
        (ask(&reader, "watch", "pods", "", ""), false),
        (ask(&account, "delete", "secrets", "ns", "s"), true),
        (ask(&account, "delete", "secrets", "ns", "t"), false),
        (ask(&account, "delete", "secrets", "other", "s"), false),
        (Attributes::path(&reader, "get", "/metrics/slis"), true),
        (Attributes::path(&reader, "get", "/healthz/etcd"), false),
    ];
    for (attributes, allowed) in cases {
        assert_eq!(
            index.authorize(&attributes).is_allowed(),
            allowed,
            "{attributes:?}"
        );
    }
}

#[test]
fn reasons_name_the_binding() {
    let index = index();
    let reader = User::new("alice", &["readers"]);
    let account = User::service_account("ns", "sa", "");
    let eve = User::new("eve", &[]);
    expect![[r#"RBAC: allowed by ClusterRoleBinding "reader-binding" of ClusterRole "reader" to Group "readers""#]]
        .assert_eq(&index.authorize(&ask(&reader, "get", "pods", "x", "p")).reason);
    expect![[r#"RBAC: allowed by RoleBinding "one-secret-binding/ns" of ClusterRole "one-secret" to ServiceAccount "sa/ns""#]]
        .assert_eq(&index.authorize(&ask(&account, "get", "secrets", "ns", "s")).reason);
    expect![[r#"RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found"#]].assert_eq(
        &index
            .authorize(&ask(&eve, "get", "secrets", "ns", "s"))
            .reason,
    );
}

#[test]
fn refusals_read_as_upstream() {
    let eve = User::new("eve", &[]);
    let refused = ask(&eve, "list", "pods", "default", "").forbidden("");
    expect![[r#"pods is forbidden: User "eve" cannot list resource "pods" in API group "" in the namespace "default""#]]
        .assert_eq(&refused.message);
    let refused = ask(&eve, "get", "nodes/<x>", "", "n").forbidden("why");
    expect![[r#"nodes "n" is forbidden: User "eve" cannot get resource "nodes/&lt;x&gt;" in API group "" at the cluster scope: why"#]]
        .assert_eq(&refused.message);
    let refused = Attributes::path(&eve, "get", "/metrics").forbidden("");
    expect![[r#"forbidden: User "eve" cannot get path "/metrics""#]].assert_eq(&refused.message);
}

#[test]
fn deleting_a_binding_takes_its_rights_away() {
    let mut index = index();
    let reader = User::new("alice", &["readers"]);
    index.delete("ClusterRoleBinding", "", "reader-binding");
    assert_eq!(
        index
            .authorize(&ask(&reader, "get", "pods", "x", "p"))
            .decision,
        Decision::NoOpinion
    );
}

#[test]
fn masters_may_everything_whatever_the_rules_say() {
    let union = Union(vec![
        std::sync::Arc::new(Privileged),
        std::sync::Arc::new(index()),
    ]);
    let admin = User::new("admin", &["system:masters"]);
    assert!(
        union
            .authorize(&ask(&admin, "nuke", "everything", "", ""))
            .is_allowed()
    );
    // Their power stands in no rule of its own: what is listed is what roles give them.
    assert_eq!(union.rules_for(&admin, "default").resource.len(), 0);
}

fn write(user: &User, resource: &str, new: &Object, old: Option<&Object>) -> String {
    let mut attributes = Attributes::resource(user, "create", super::GROUP, resource);
    attributes.namespace = new.namespace().to_owned();
    let index = index();
    match check_write(&attributes, new, old, &index, &index) {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{} {}", error.code, error.message),
    }
}

#[test]
fn nobody_grants_what_he_does_not_hold() {
    let reader = User::new("alice", &["readers"]);
    let held = cluster_role(
        "a",
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]),
    );
    let more = cluster_role(
        "b",
        json!([{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "delete"]}]),
    );
    assert_eq!(write(&reader, "clusterroles", &held, None), "ok");
    expect![[r#"
        403 clusterroles.rbac.authorization.k8s.io "b" is forbidden: user "alice" (groups=["readers"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["nodes"], Verbs:["get" "delete"]}
        {APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#]]
    .assert_eq(&write(&reader, "clusterroles", &more, None));
    assert_eq!(
        write(&reader, "clusterroles", &more, Some(&more)),
        "ok",
        "nothing changes"
    );
    let mut gathers = held;
    gathers.0.insert(
        "aggregationRule".into(),
        json!({"clusterRoleSelectors": [{}]}),
    );
    expect![[r#"403 clusterroles.rbac.authorization.k8s.io "a" is forbidden: must have cluster-admin privileges to use the aggregationRule"#]]
        .assert_eq(&write(&reader, "clusterroles", &gathers, None));
}

#[test]
fn nobody_binds_what_he_does_not_hold() {
    let reader = User::new("alice", &["readers"]);
    let to_self = json!([{"kind": "User", "name": "alice"}]);
    let fine = binding("RoleBinding", "ns", "reader", to_self.clone());
    assert_eq!(write(&reader, "rolebindings", &fine, None), "ok");
    let more = binding("RoleBinding", "ns", "one-secret", to_self.clone());
    expect![[r#"
        403 rolebindings.rbac.authorization.k8s.io "one-secret-binding" is forbidden: user "alice" (groups=["readers"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["secrets"], ResourceNames:["s"], Verbs:["*"]}"#]]
    .assert_eq(&write(&reader, "rolebindings", &more, None));
    let missing = binding("RoleBinding", "ns", "nothing", to_self);
    expect![[r#"404 clusterrole.rbac.authorization.k8s.io "nothing" not found"#]]
        .assert_eq(&write(&reader, "rolebindings", &missing, None));
}

mod laws {
    //! What covering means: nobody who covers a rule is refused what the rule allows.

    use k8s_openapi::api::rbac::v1::PolicyRule;
    use proptest::prelude::*;

    use crate::rbac::rule::{allows, compact, uncovered};
    use crate::{Attributes, User};

    fn some_of(texts: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
        let some = prop::collection::vec(prop::sample::select(texts), 0..3);
        some.prop_map(|list| Some(list.into_iter().map(str::to_owned).collect()))
    }

    const VERBS: &[&str] = &["*", "get", "list"];
    const GROUPS: &[&str] = &["*", "", "apps"];
    const RESOURCES: &[&str] = &["*", "*/scale", "pods", "pods/log", "pods/scale"];
    const NAMES: &[&str] = &["a", "b"];
    const PATHS: &[&str] = &["*", "/a", "/a/*", "/a/b"];

    fn rule() -> impl Strategy<Value = PolicyRule> {
        let lists = (
            some_of(VERBS),
            some_of(GROUPS),
            some_of(RESOURCES),
            some_of(NAMES),
            some_of(PATHS),
        );
        (any::<bool>(), lists).prop_map(|(is_path, (verbs, groups, resources, names, paths))| {
            let verbs = verbs.unwrap_or_default();
            let empty = PolicyRule {
                verbs,
                ..PolicyRule::default()
            };
            // A valid rule speaks of paths or of resources, never of both.
            match is_path {
                true => PolicyRule {
                    non_resource_urls: paths,
                    ..empty
                },
                false => PolicyRule {
                    api_groups: groups,
                    resources,
                    resource_names: names,
                    ..empty
                },
            }
        })
    }

    fn request() -> impl Strategy<Value = Attributes> {
        let pick = |texts: &'static [&'static str]| prop::sample::select(texts);
        let resource = (
            pick(&["get", "list", "watch"]),
            pick(&["", "apps", "batch"]),
        );
        let object = (
            pick(&["pods", "nodes"]),
            pick(&["", "log", "scale"]),
            pick(&["", "a", "b"]),
        );
        let path = (any::<bool>(), pick(&["/a", "/a/b", "/b"]));
        (resource, object, path).prop_map(|((verb, group), (what, sub, name), (is_path, path))| {
            let user = User::new("u", &[]);
            if is_path {
                return Attributes::path(&user, verb, path);
            }
            let mut attributes = Attributes::resource(&user, verb, group, what);
            attributes.subresource = sub.to_owned();
            attributes.name = name.to_owned();
            attributes
        })
    }

    fn rules() -> impl Strategy<Value = Vec<PolicyRule>> {
        prop::collection::vec(rule(), 0..4)
    }

    proptest! {
        #[test]
        fn who_holds_rules_covers_them(rules in rules()) {
            prop_assert!(uncovered(&rules, &rules).is_empty());
        }

        #[test]
        fn who_covers_rules_may_what_they_allow(
            held in rules(), wanted in rules(), request in request(),
        ) {
            let missing = uncovered(&held, &wanted);
            let allowed = |rules: &[PolicyRule]| rules.iter().any(|rule| allows(rule, &request));
            // What the wanted rules allow is held, or is named among what is missing.
            if allowed(&wanted) {
                prop_assert!(allowed(&held) || allowed(&missing), "{missing:?}");
            }
        }

        #[test]
        fn compacting_changes_nothing(rules in rules(), request in request()) {
            let allowed = |rules: &[PolicyRule]| rules.iter().any(|rule| allows(rule, &request));
            prop_assert_eq!(allowed(&rules), allowed(&compact(rules.clone())));
        }
    }
}
