use expect_test::expect;

use super::*;

const FILE: &str = r#"
# Comments and empty lines are nothing.
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "shop", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "*", "readonly": true, "nonResourcePath": "/version*"}}
{"user": "carol", "readonly": true}
{"user": "dave", "resource": "events", "namespace": "shop"}
"#;

fn may(user: &str, verb: &str, namespace: &str, resource: &str) -> bool {
    let policies = Policies::parse(FILE, "f").expect("policies");
    let user = User::new(user, &[SYSTEM_AUTHENTICATED]);
    let attributes = Attributes {
        namespace: namespace.to_owned(),
        ..Attributes::resource(&user, verb, "", resource)
    };
    policies.authorize(&attributes).is_allowed()
}

#[test]
fn a_line_that_fits_allows() {
    assert!(may("alice", "delete", "", "nodes"));
    assert!(may("bob", "list", "shop", "pods"));
    assert!(!may("bob", "create", "shop", "pods"));
    assert!(!may("bob", "list", "", "pods"));
    assert!(may("carol", "watch", "any", "secrets"));
    assert!(!may("carol", "update", "any", "secrets"));
    assert!(may("dave", "create", "shop", "events"));
    assert!(!may("dave", "create", "shop", "pods"));
    assert!(!may("eve", "get", "shop", "pods"));
}

#[test]
fn paths_are_open_to_whom_a_line_names() {
    let policies = Policies::parse(FILE, "f").expect("policies");
    let asks = |user: &User, verb: &str, path: &str| {
        let verdict = policies.authorize(&Attributes::path(user, verb, path));
        (verdict.is_allowed(), verdict.reason)
    };
    let eve = User::new("eve", &[SYSTEM_AUTHENTICATED]);
    assert!(asks(&eve, "get", "/version/x").0);
    assert!(!asks(&eve, "post", "/version").0);
    let refused = asks(&User::anonymous(), "get", "/version");
    assert_eq!(refused, (false, "abac: No policy matched.".to_owned()));
    let carol = User::new("carol", &[]);
    assert!(asks(&carol, "get", "/metrics").0);
    let rules = policies.rules_for(&User::new("bob", &[]), "shop");
    assert_eq!(rules.resource.len(), 1);
    assert_eq!(rules.resource[0].verbs, ["get", "list", "watch"]);
    assert!(rules.non_resource.is_empty());
}

#[test]
fn a_file_that_cannot_be_used_says_where() {
    let why = |text: &str| {
        Policies::parse(text, "/f")
            .expect_err("an error")
            .to_string()
    };
    expect![[r#"error reading policy file /f, line 2: {"user": : couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 9"#]]
        .assert_eq(&why("# a\n{\"user\": "));
    expect![[r#"error reading policy file /f, line 1: {"kind": "Other", "apiVersion": "v1"}: no kind "Other" is registered for version "v1" in scheme "pkg/apis/abac/register.go:30""#]]
        .assert_eq(&why(r#"{"kind": "Other", "apiVersion": "v1"}"#));
    expect![[r#"error reading policy file /f, line 1: {"user": 1}: invalid type: integer `1`, expected a string"#]]
        .assert_eq(&why(r#"{"user": 1}"#));
    let long = format!("# {}", "x".repeat(64 << 10));
    expect!["error reading policy file /f: bufio.Scanner: token too long"].assert_eq(&why(&long));
}
