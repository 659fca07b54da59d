use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::{Event, Level, Policy, Stage, without_managed_fields};
use crate::{Attributes, User};

const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

fn policy(rules: &str) -> Policy {
    Policy::parse(format!("{HEAD}{rules}").as_bytes()).expect("a policy")
}

fn request(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
    let user = User::new("jane", &["devs"]);
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        subresource: sub.to_owned(),
        ..Attributes::resource(&user, verb, group, resource)
    }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = policy(
        "omitStages: [RequestReceived]
rules:
- {level: None, users: [system:kube-proxy], verbs: [watch]}
- {level: Metadata, resources: [{resources: [secrets, '*/token']}], omitStages: [Panic]}
- {level: Request, resources: [{group: apps, resources: ['deployments/*'], resourceNames: [web]}]}
- {level: None, nonResourceURLs: ['/healthz*', /version]}
- {level: RequestResponse, userGroups: [devs], namespaces: [shop], omitManagedFields: true}
- {level: Metadata, nonResourceURLs: ['*']}
",
    );
    let level = |request: &Attributes| policy.config(request).level;
    assert_eq!(level(&request("get", "", "secrets", "a")), Level::Metadata);
    assert_eq!(
        level(&request("create", "", "serviceaccounts/token", "a")),
        Level::Metadata
    );
    assert_eq!(
        level(&request("get", "apps", "deployments/scale", "web")),
        Level::Request
    );
    let other = request("get", "apps", "deployments/scale", "db");
    assert_eq!(level(&other), Level::RequestResponse);
    assert!(policy.config(&other).omit_managed_fields);
    let config = policy.config(&request("get", "", "secrets", "a"));
    assert_eq!(config.omit_stages, [Stage::RequestReceived, Stage::Panic]);
    let path = |path| level(&Attributes::path(&User::new("x", &[]), "get", path));
    assert_eq!(
        (path("/healthz/etcd"), path("/version")),
        (Level::None, Level::None)
    );
    assert_eq!(
        (path("/version/"), path("/metrics")),
        (Level::Metadata, Level::Metadata)
    );
    let mut proxy = request("watch", "", "services", "");
    proxy.user = Arc::new(User::new("system:kube-proxy", &[]));
    assert_eq!(level(&proxy), Level::None);
}

fn refused(text: &str, expected: Expect) {
    let error = Policy::parse(text.as_bytes()).expect_err("refused");
    expected.assert_eq(&error.to_string());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    refused(HEAD, expect!["loaded illegal policy with 0 rules"]);
    refused(
        "apiVersion: v1\nkind: Policy\n",
        expect!["unknown group version field v1, Kind=Policy in policy"],
    );
    refused(
        &format!("{HEAD}rules: [{{level: All}}, {{users: [a]}}]"),
        expect![[
            r#"[rules[0].level: Unsupported value: "All": supported values: "None", "Metadata", "Request", "RequestResponse", rules[1].level: Required value]"#
        ]],
    );
    refused(
        &format!(
            "{HEAD}omitStages: [Never]\nrules: [{{level: None, nonResourceURLs: ['a', '/a*b'], namespaces: [x]}}]"
        ),
        expect![[
            r#"[omitStages[0]: Invalid value: "Never": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic, rules[0].nonResourceURLs[0]: Invalid value: "a": non-resource URL rules must begin with a '/' character, rules[0].nonResourceURLs[1]: Invalid value: "/a*b": non-resource URL wildcards '*' must be the final character of the rule, rules[0].nonResourceURLs: Invalid value: ["a","/a*b"]: rules cannot apply to both regular resources and non-resource URLs]"#
        ]],
    );
    refused(
        &format!(
            "{HEAD}rules: [{{level: None, resources: [{{group: Apps/v1, resourceNames: [a]}}]}}]"
        ),
        expect![[
            r#"[rules[0].resources.group: Invalid value: "Apps/v1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), rules[0].resources.resourceNames: Invalid value: ["a"]: using resourceNames requires at least one resource]"#
        ]],
    );
}

fn event() -> Event {
    let received = Timestamp::from_microsecond(1_700_000_000_123_456).expect("a time");
    let mut event = Event::new(
        Level::RequestResponse,
        "id",
        &request("create", "", "configmaps", ""),
        received,
    );
    "/api/v1/namespaces/shop/configmaps".clone_into(&mut event.request_uri);
    event.source_ips = vec!["192.0.2.7".to_owned()];
    event.set_user_agent("kubectl/v1.37");
    event
}

#[test]
fn an_event_in_both_forms() {
    let mut event = event();
    let body = json!({"metadata": {"name": "a", "namespace": "other", "uid": "u"}});
    event.refer_to(&machinery::Object::from_value(body).expect("an object"));
    event.response_status = Some(json!({"metadata": {}, "code": 201}));
    let json = String::from_utf8(event.to_json()).expect("text");
    expect![[r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id","stage":"RequestReceived","requestURI":"/api/v1/namespaces/shop/configmaps","verb":"create","user":{"username":"jane","groups":["devs"]},"sourceIPs":["192.0.2.7"],"userAgent":"kubectl/v1.37","objectRef":{"resource":"configmaps","namespace":"shop","name":"a","uid":"u"},"responseStatus":{"code":201,"metadata":{}},"requestReceivedTimestamp":"2023-11-14T22:13:20.123456Z","stageTimestamp":"2023-11-14T22:13:20.123456Z"}"#]].assert_eq(&json);
    expect![[r#"2023-11-14T22:13:20.123456Z AUDIT: id="id" stage="RequestReceived" ip="192.0.2.7" method="create" user="jane" groups="\"devs\"" as="<self>" asgroups="<lookup>" user-agent="kubectl/v1.37" namespace="shop" uri="/api/v1/namespaces/shop/configmaps" response="201""#]].assert_eq(&event.to_text());
}

#[test]
fn an_event_that_is_too_long_loses_its_bodies() {
    let mut event = event();
    event.request_object = Some(json!({"data": {"a": "x".repeat(2000)}}));
    let short = event.clone().within(1500).expect("short enough");
    assert!(short.request_object.is_none());
    assert_eq!(short.annotations["audit.k8s.io/truncated"], "true");
    assert!(event.within(100).is_none());
}

#[test]
fn managed_fields_leave_objects_lists_and_tables() {
    let object = json!({"metadata": {"name": "a", "managedFields": [1]}});
    let mut list =
        json!({"items": [object], "rows": [{"object": object}], "metadata": {"managedFields": []}});
    without_managed_fields(&mut list);
    assert!(!list.to_string().contains("managedFields"));
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_an_error(text in "\\PC{0,80}") {
        let _ = Policy::parse(text.as_bytes());
        let _ = Policy::parse(format!("{HEAD}{text}").as_bytes());
    }

    #[test]
    fn a_user_agent_is_cut_between_letters(agent in "\\PC{0,3000}") {
        let mut event = event();
        event.set_user_agent(&agent);
        prop_assert!(event.user_agent.len() <= 1024 + "...TRUNCATED".len());
        prop_assert_eq!(agent.len() > 1024, event.user_agent.ends_with("...TRUNCATED"));
    }
}
