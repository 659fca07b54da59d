//! Pods and what is said of them; `answers.jsonl` holds what upstream's evaluator says, release by release.

use std::sync::Arc;

use expect_test::{Expect, expect};
use machinery::Object;
use serde_json::{Value, json};

use super::checks::{Findings, Pod};
use super::{Configuration, Level, LevelVersion, Version};
use crate::admission::{Notes, Operation, Request, Settings};
use crate::{Lookup, Union, User};

#[test]
fn pods_are_refused_in_upstreams_words() {
    for line in include_str!("answers.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let pod = Pod {
            metadata: &case["pod"]["metadata"],
            spec: &case["pod"]["spec"],
        };
        let mut said = Vec::new();
        for (name, level) in [
            ("baseline", Level::Baseline),
            ("restricted", Level::Restricted),
        ] {
            let mut last = "?".to_owned();
            for minor in 0..=38 {
                let version = Version::Minor(minor);
                let found = Findings::of(LevelVersion { level, version }, pod).details();
                if found != last {
                    said.push(json!([format!("{name}:v1.{minor}"), found]));
                    last = found;
                }
            }
        }
        assert_eq!(json!(said), case["says"], "{}", case["pod"]);
    }
}

/// A namespace and pods in it.
struct Cluster(Object, Vec<Arc<Object>>);

impl Lookup for Cluster {
    fn get(&self, _: &str, resource: &str, _: &str, _: &str) -> Option<Arc<Object>> {
        (resource == "namespaces").then(|| Arc::new(self.0.clone()))
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
        self.1.clone()
    }
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

struct Case<'a> {
    labels: Value,
    resource: &'a str,
    group: &'a str,
    old: Option<Value>,
    pods: Vec<Value>,
    configuration: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            labels: json!({}),
            resource: "pods",
            group: "",
            old: None,
            pods: Vec::new(),
            configuration: "",
        }
    }
}

impl Case<'_> {
    /// The refusal, the warnings and what the audit log is told.
    fn says(self, value: Value, expected: Expect) {
        let namespace = object(json!({"metadata": {"name": "ns", "labels": self.labels}}));
        let pods = self.pods.into_iter().map(|pod| Arc::new(object(pod)));
        let cluster = Cluster(namespace, pods.collect());
        let new = object(value);
        let old = self.old.map(object);
        let settings = Settings {
            pod_security: Configuration::parse(self.configuration).expect("good"),
            ..Settings::default()
        };
        let notes = Notes::default();
        let user = User::new("jane", &[]);
        let result = super::validate(
            &Request {
                user: &user,
                operation: match old {
                    Some(_) => Operation::Update,
                    None => Operation::Create,
                },
                group: self.group,
                resource: self.resource,
                subresource: "",
                kind: "",
                namespace: "ns",
                name: new.name(),
                old: old.as_ref(),
                name_suffix: "abcde",
                settings: &settings,
                notes: &notes,
                authorizer: &Union(Vec::new()),
            },
            &new,
            &cluster,
        );
        let mut text = match result {
            Ok(()) => "allowed\n".to_owned(),
            Err(error) => format!("{} {}\n", error.code, error.message),
        };
        for warning in notes.warnings.into_inner() {
            text.push_str(&format!("warning: {warning}\n"));
        }
        for (key, value) in notes.annotations.into_inner() {
            text.push_str(&format!("{key}: {value}\n"));
        }
        expected.assert_eq(&text);
    }
}

fn plain() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn host() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "containers": [{"name": "c"}]}})
}

#[test]
fn a_namespace_without_labels_allows_everything() {
    Case::default().says(
        host(),
        expect![[r#"
        allowed
        pod-security.kubernetes.io/enforce-policy: privileged:latest
    "#]],
    );
}

#[test]
fn what_is_enforced_refuses_and_what_is_warned_of_is_told() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/audit-version": "v1.20"});
    let case = || Case {
        labels: labels.clone(),
        ..Case::default()
    };
    case().says(host(), expect![[r#"
        403 pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)
        pod-security.kubernetes.io/audit-violations: would violate PodSecurity "restricted:v1.20": host namespaces (hostPID=true), allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
        pod-security.kubernetes.io/enforce-policy: baseline:latest
    "#]]);
    case().says(plain(), expect![[r#"
        allowed
        pod-security.kubernetes.io/audit-violations: would violate PodSecurity "restricted:v1.20": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
        pod-security.kubernetes.io/enforce-policy: baseline:latest
    "#]]);
}

#[test]
fn templates_are_warned_of_and_never_refused() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let case = Case {
        labels,
        resource: "deployments",
        group: "apps",
        ..Case::default()
    };
    case.says(
        json!({"metadata": {"name": "d"}, "spec": {"template": host()}}),
        expect![[r#"
            allowed
            warning: would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)
        "#]],
    );
}

#[test]
fn of_a_wrong_level_the_strictest_is_enforced() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "some",
        "pod-security.kubernetes.io/warn": "other", "pod-security.kubernetes.io/warn-version": "v1"});
    let case = Case {
        labels,
        ..Case::default()
    };
    case.says(plain(), expect![[r#"
        403 pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
        pod-security.kubernetes.io/enforce-policy: restricted:latest
        pod-security.kubernetes.io/error: Failed to parse policy: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "some": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "other": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v1": must be "latest" or "v1.x"]
    "#]]);
}

#[test]
fn a_change_that_no_check_looks_at_passes() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let case = |old| Case {
        labels: labels.clone(),
        old: Some(old),
        ..Case::default()
    };
    case(plain()).says(
        plain(),
        expect![[r#"
        allowed
    "#]],
    );
    let mut other = plain();
    other["spec"]["containers"][0]["image"] = "j".into();
    case(other).says(plain(), expect![[r#"
        403 pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
        pod-security.kubernetes.io/enforce-policy: restricted:latest
    "#]]);
    let mut more = plain();
    more["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
    case(plain()).says(more, expect![[r#"
        403 pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (containers "c", "e" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "c", "e" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "c", "e" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "c", "e" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
        pod-security.kubernetes.io/enforce-policy: restricted:latest
    "#]]);
}

#[test]
fn exempt_are_users_namespaces_and_runtime_classes() {
    let kind =
        "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n";
    let configuration = |exempt: &str| {
        format!(
            "{kind}defaults: {{enforce: restricted, enforce-version: v1.30}}\nexemptions: {{{exempt}}}\n"
        )
    };
    for exempt in [
        "",
        "usernames: [jane]",
        "namespaces: [ns]",
        "runtimeClasses: [boxed]",
    ] {
        let configuration = configuration(exempt);
        let case = Case {
            configuration: &configuration,
            ..Case::default()
        };
        let mut pod = host();
        pod["spec"]["runtimeClassName"] = "boxed".into();
        case.says(
            pod,
            match exempt {
                "" => expect![[r#"
                    403 pods "p" is forbidden: violates PodSecurity "restricted:v1.30": host namespaces (hostPID=true), allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")
                    pod-security.kubernetes.io/enforce-policy: restricted:v1.30
                "#]],
                "usernames: [jane]" => expect![[r#"
                    allowed
                    pod-security.kubernetes.io/exempt: user
                "#]],
                "namespaces: [ns]" => expect![[r#"
                    allowed
                    pod-security.kubernetes.io/exempt: namespace
                "#]],
                _ => expect![[r#"
                    allowed
                    pod-security.kubernetes.io/exempt: runtimeClass
                "#]],
            },
        );
    }
    let wrong = configuration("namespaces: [A, b, b], usernames: ['']");
    expect![[r#"[exemptions.namespaces[0]: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), exemptions.namespaces[2]: Duplicate value: "b", exemptions.usernames[0]: Invalid value: "": username must not be empty]"#]].assert_eq(&Configuration::parse(&wrong).expect_err("refused"));
}

#[test]
fn labels_of_a_namespace_must_be_right_and_what_is_there_is_told() {
    let namespace = |labels: Value| json!({"metadata": {"name": "ns", "labels": labels}});
    let case = |old: Option<Value>| Case {
        resource: "namespaces",
        old,
        pods: ["c", "b", "a"]
            .iter()
            .map(|name| {
                let mut pod = host();
                pod["metadata"]["name"] = (*name).into();
                pod["metadata"]["ownerReferences"] = json!([{"controller": true, "uid": "u"}]);
                pod
            })
            .chain([plain()])
            .collect(),
        ..Case::default()
    };
    let wrong = json!({"pod-security.kubernetes.io/enforce": "some", "pod-security.kubernetes.io/enforce-version": "1"});
    let strict = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    case(None).says(namespace(wrong.clone()), expect![[r#"
        422 Namespace "ns" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "some": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "1": must be "latest" or "v1.x"]
    "#]]);
    case(Some(namespace(wrong.clone()))).says(
        namespace(wrong),
        expect![[r#"
        allowed
    "#]],
    );
    case(Some(namespace(json!({})))).says(namespace(strict.clone()), expect![[r#"
        allowed
        warning: existing pods in namespace "ns" violate the new PodSecurity enforce level "restricted:latest"
        warning: a (and 2 other pods): host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile
        warning: p: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile
    "#]]);
    case(Some(namespace(strict))).says(
        namespace(json!({})),
        expect![[r#"
        allowed
    "#]],
    );
}
