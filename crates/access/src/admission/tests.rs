//! Requests in, changed objects or refusals out.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use machinery::Object;
use serde_json::{Value, json};

use super::{Awaited, Notes, Operation, Request, Settings, admit, awaits, validate};
use crate::{Lookup, Union, User};

mod limits;
mod manifests;
mod node_restriction;
mod nodes;
mod optional;
mod review;
mod rules;

/// A small cluster: `resource/namespace/name` -> object.
struct Cluster(BTreeMap<String, Arc<Object>>);

impl Lookup for Cluster {
    fn get(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0
            .get(&format!("{resource}/{namespace}/{name}"))
            .cloned()
    }

    fn list(&self, _: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let of = |key: &str| {
            let mut parts = key.split('/');
            let fits = parts.next() == Some(resource);
            fits && (namespace.is_empty() || parts.next() == Some(namespace))
        };
        self.0
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, object)| object.clone())
            .collect()
    }
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn cluster() -> Cluster {
    let objects = [
        ("namespaces//ns", json!({"status": {"phase": "Active"}})),
        (
            "namespaces//gone",
            json!({"status": {"phase": "Terminating"}}),
        ),
        (
            "serviceaccounts/ns/default",
            json!({"metadata": {"name": "default"},
            "imagePullSecrets": [{"name": "pull"}]}),
        ),
        (
            "serviceaccounts/ns/strict",
            json!({
            "metadata": {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
            "secrets": [{"name": "ok"}]}),
        ),
        (
            "serviceaccounts/ns/quiet",
            json!({"metadata": {"name": "quiet"},
            "automountServiceAccountToken": false}),
        ),
        (
            "serviceaccounts/limited/default",
            json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false}),
        ),
        (
            "namespaces//limited",
            json!({"status": {"phase": "Active"}}),
        ),
        (
            "limitranges/limited/bounds",
            json!({"metadata": {"name": "bounds"}, "spec": {"limits": [
                {"type": "Container", "min": {"cpu": "100m"}, "max": {"memory": "1Gi"},
                 "default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "200m"}, "maxLimitRequestRatio": {"cpu": "4"}},
                {"type": "Pod", "max": {"cpu": "2"}},
                {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}),
        ),
        (
            "runtimeclasses//boxed",
            json!({"metadata": {"name": "boxed"}, "handler": "boxed", "overhead": {"podFixed": {"cpu": "250m"}},
                "scheduling": {"nodeSelector": {"box": "yes"}, "tolerations": [{"key": "box", "operator": "Exists"}]}}),
        ),
        (
            "ingressclasses//old",
            json!({"metadata": {"name": "old", "creationTimestamp": "2025-01-01T00:00:00Z",
                "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}}),
        ),
        (
            "ingressclasses//new",
            json!({"metadata": {"name": "new", "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}}),
        ),
        (
            "priorityclasses//high",
            json!({"metadata": {"name": "high"}, "value": 1000,
            "preemptionPolicy": "Never"}),
        ),
        (
            "priorityclasses//usual",
            json!({"metadata": {"name": "usual"}, "value": 5,
            "globalDefault": true}),
        ),
        (
            "nodes//one",
            json!({"metadata": {"name": "one", "uid": "one-uid"}}),
        ),
        (
            "pods/ns/mine",
            json!({"metadata": {"name": "mine", "uid": "mine-uid"},
            "spec": {"nodeName": "one", "volumes": [
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}}),
        ),
        (
            "pods/ns/other",
            json!({"metadata": {"name": "other", "uid": "other-uid"},
            "spec": {"nodeName": "two"}}),
        ),
    ];
    Cluster(
        objects
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Arc::new(object(v))))
            .collect(),
    )
}

struct Case<'a> {
    user: User,
    operation: Operation,
    /// `resource[.group][/sub]`
    what: &'a str,
    namespace: &'a str,
    name: &'a str,
    old: Option<Object>,
}

fn create<'a>(what: &'a str, namespace: &'a str) -> Case<'a> {
    let user = User::new("alice", &[]);
    Case {
        user,
        operation: Operation::Create,
        what,
        namespace,
        name: "",
        old: None,
    }
}

fn by_node<'a>(operation: Operation, what: &'a str, namespace: &'a str, name: &'a str) -> Case<'a> {
    let user = User::new("system:node:one", &["system:nodes"]);
    Case {
        user,
        operation,
        what,
        namespace,
        name,
        old: None,
    }
}

impl Case<'_> {
    fn with<T>(&self, run: impl FnOnce(&Request) -> T) -> T {
        self.under(&Settings::default(), run)
    }

    fn under<T>(&self, settings: &Settings, run: impl FnOnce(&Request) -> T) -> T {
        let (what, subresource) = self.what.split_once('/').unwrap_or((self.what, ""));
        let (resource, group) = what.split_once('.').unwrap_or((what, ""));
        run(&Request {
            user: &self.user,
            operation: self.operation,
            group,
            resource,
            subresource,
            kind: if resource == "events" { "Event" } else { "" },
            namespace: self.namespace,
            name: self.name,
            old: self.old.as_ref(),
            name_suffix: "abcde",
            settings,
            notes: &Notes::default(),
            authorizer: &Union(Vec::new()),
        })
    }

    fn run(&self, value: Value) -> Result<Value, String> {
        let (cluster, mut object) = (cluster(), object(value));
        let result = self.with(|request| {
            admit(request, &mut object, &cluster, |_, _| {})?;
            validate(request, &object, &cluster, |_, _| {})
        });
        result
            .map(|()| object.into_value())
            .map_err(|e| format!("{} {}", e.code, e.message))
    }

    fn changes(&self, value: Value, expected: Expect) {
        let text = match self.run(value) {
            Ok(object) => serde_json::to_string_pretty(&object).expect("encodes"),
            Err(error) => error,
        };
        expected.assert_eq(&text);
    }

    fn refuses(&self, value: Value, expected: Expect) {
        expected.assert_eq(
            &self
                .run(value)
                .map(|_| "ok".to_owned())
                .unwrap_or_else(|e| e),
        );
    }

    fn allows(&self, value: Value) {
        assert_eq!(self.run(value).map(|_| ()), Ok(()));
    }
}

#[test]
fn a_new_pod_gets_account_token_priority_and_tolerations() {
    create("pods", "ns").changes(
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}),
        expect![[r#"
            {
              "metadata": {
                "name": "p"
              },
              "spec": {
                "containers": [
                  {
                    "name": "c",
                    "volumeMounts": [
                      {
                        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                        "name": "kube-api-access-abcde",
                        "readOnly": true
                      }
                    ]
                  }
                ],
                "imagePullSecrets": [
                  {
                    "name": "pull"
                  }
                ],
                "priority": 5,
                "priorityClassName": "usual",
                "serviceAccount": "default",
                "serviceAccountName": "default",
                "tolerations": [
                  {
                    "effect": "NoExecute",
                    "key": "node.kubernetes.io/not-ready",
                    "operator": "Exists",
                    "tolerationSeconds": 300
                  },
                  {
                    "effect": "NoExecute",
                    "key": "node.kubernetes.io/unreachable",
                    "operator": "Exists",
                    "tolerationSeconds": 300
                  }
                ],
                "volumes": [
                  {
                    "name": "kube-api-access-abcde",
                    "projected": {
                      "defaultMode": 420,
                      "sources": [
                        {
                          "serviceAccountToken": {
                            "expirationSeconds": 3607,
                            "path": "token"
                          }
                        },
                        {
                          "configMap": {
                            "items": [
                              {
                                "key": "ca.crt",
                                "path": "ca.crt"
                              }
                            ],
                            "name": "kube-root-ca.crt"
                          }
                        },
                        {
                          "downwardAPI": {
                            "items": [
                              {
                                "fieldRef": {
                                  "apiVersion": "v1",
                                  "fieldPath": "metadata.namespace"
                                },
                                "path": "namespace"
                              }
                            ]
                          }
                        }
                      ]
                    }
                  }
                ]
              }
            }"#]],
    );
}

#[test]
fn a_pod_keeps_what_it_says_itself() {
    let pod = json!({"spec": {
        "serviceAccountName": "quiet", "priorityClassName": "high",
        "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c"}],
    }});
    create("pods", "ns").changes(
        pod,
        expect![[r#"
        {
          "spec": {
            "containers": [
              {
                "name": "c"
              }
            ],
            "preemptionPolicy": "Never",
            "priority": 1000,
            "priorityClassName": "high",
            "serviceAccountName": "quiet",
            "tolerations": [
              {
                "operator": "Exists"
              }
            ]
          }
        }"#]],
    );
}

#[test]
fn pods_that_cannot_be_are_refused() {
    let pods = create("pods", "ns");
    let named = |spec: Value| json!({"metadata": {"generateName": "p-"}, "spec": spec});
    pods.refuses(
        named(json!({"serviceAccountName": "nobody"})),
        expect![[r#"403 pods "p-" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found"#]],
    );
    pods.refuses(
        named(json!({"priorityClassName": "nothing"})),
        expect![[r#"403 pods "p-" is forbidden: no PriorityClass with name nothing was found"#]],
    );
    pods.refuses(
        named(json!({"priority": 7})),
        expect![[r#"403 pods "p-" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name"#]],
    );
    create("pods", "gone").refuses(
        named(json!({})),
        expect![[r#"403 pods "p-" is forbidden: unable to create new content in namespace gone because it is being terminated"#]],
    );
    create("configmaps", "nowhere").refuses(
        json!({}),
        expect![[r#"404 namespaces "nowhere" not found"#]],
    );
    create("localsubjectaccessreviews.authorization.k8s.io", "nowhere").allows(json!({}));
}

/// CVE-2023-2728: every kind of container, `envFrom` and projected sources count.
#[test]
fn enforced_secrets_cover_every_kind_of_reference() {
    let pods = create("pods", "ns");
    let strict = |rest: Value| {
        let mut spec =
            json!({"serviceAccountName": "strict", "automountServiceAccountToken": false});
        spec.as_object_mut()
            .expect("a map")
            .extend(rest.as_object().expect("a map").clone());
        json!({"metadata": {"name": "p"}, "spec": spec})
    };
    let env_from =
        |secret: &str| json!([{"name": "c", "envFrom": [{"secretRef": {"name": secret}}]}]);
    pods.allows(strict(json!({"containers": env_from("ok")})));
    pods.refuses(
        strict(json!({"initContainers": env_from("no")})),
        expect![[r#"403 pods "p" is forbidden: init container c with envFrom referencing secret.secretName="no" is not allowed because service account strict does not reference that secret"#]],
    );
    pods.refuses(
        strict(json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "no"}}]}}]})),
        expect![[r#"403 pods "p" is forbidden: volume with secret.secretName="no" is not allowed because service account strict does not reference that secret"#]],
    );
    pods.refuses(
        strict(json!({"imagePullSecrets": [{"name": "no"}]})),
        expect![[r#"403 pods "p" is forbidden: imagePullSecrets[0].name="no" is not allowed because service account strict does not reference that imagePullSecret"#]],
    );
    let debug = Case {
        operation: Operation::Update,
        name: "p",
        ..create("pods/ephemeralcontainers", "ns")
    };
    debug.refuses(
        strict(json!({"ephemeralContainers": env_from("no")})),
        expect![[r#"403 pods "p" is forbidden: ephemeral container c with envFrom referencing secret.secretName="no" is not allowed because service account strict does not reference that secret"#]],
    );
}

#[test]
fn what_a_controller_is_about_to_make_is_awaited() {
    let cluster = cluster();
    let wants = |case: Case, value: Value| case.with(|r| awaits(r, &object(value), &cluster));
    assert_eq!(wants(create("pods", "ns"), json!({})), None);
    let namespace = wants(create("configmaps", "new"), json!({}));
    assert_eq!(
        namespace.map(|a| (a.resource, a.name)),
        Some(("namespaces", "new".to_owned()))
    );
    let account = wants(create("pods", "gone"), json!({}));
    let expected = Awaited {
        resource: "serviceaccounts",
        namespace: "gone".into(),
        name: "default".into(),
    };
    assert_eq!(account, Some(expected));
    let without = Settings {
        without: ["ServiceAccount".to_owned()].into(),
        ..Settings::default()
    };
    let left_out = create("pods", "gone").with(|request| {
        let request = Request {
            settings: &without,
            ..*request
        };
        awaits(&request, &object(json!({})), &cluster)
    });
    assert_eq!(left_out, None);
    assert_eq!(
        wants(
            create("pods", "gone"),
            json!({"spec": {"serviceAccountName": "x"}})
        ),
        None
    );
}

#[test]
fn immortal_namespaces_and_the_one_default_class() {
    let delete = |name| Case {
        operation: Operation::Delete,
        name,
        ..create("namespaces", "")
    };
    delete("kube-system").refuses(
        json!({}),
        expect![[
            r#"403 namespaces "kube-system" is forbidden: this namespace may not be deleted"#
        ]],
    );
    delete("ns").allows(json!({}));
    create("priorityclasses.scheduling.k8s.io", "").refuses(
        json!({"metadata": {"name": "new"}, "globalDefault": true}),
        expect![[r#"403 priorityclasses.scheduling.k8s.io "new" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"#]],
    );
}

#[test]
fn claims_get_the_newest_default_class_and_are_held() {
    let mut cluster = cluster();
    for (name, created) in [
        ("old", "2025-01-01T00:00:00Z"),
        ("new", "2025-02-01T00:00:00Z"),
    ] {
        let class = json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "allowVolumeExpansion": name == "new"});
        let key = format!("storageclasses//{name}");
        cluster.0.insert(key, Arc::new(object(class)));
    }
    let make = |spec: Value| {
        let mut claim = object(json!({"metadata": {"name": "data"}, "spec": spec}));
        create("persistentvolumeclaims", "ns")
            .with(|r| admit(r, &mut claim, &cluster, |_, _| {}))
            .expect("admitted");
        claim.into_value()
    };
    let claim = make(json!({}));
    assert_eq!(claim["spec"]["storageClassName"], "new");
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert_eq!(
        make(json!({"storageClassName": ""}))["spec"]["storageClassName"],
        ""
    );

    let sized = |class: &str, size: &str, phase: &str| {
        json!({"metadata": {"name": "data"}, "status": {"phase": phase},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
    };
    let grow = |class: &str, phase: &str| {
        let mut case = create("persistentvolumeclaims", "ns");
        (case.operation, case.name) = (Operation::Update, "data");
        case.old = Some(object(sized(class, "1Gi", phase)));
        let new = object(sized(class, "2Gi", phase));
        case.with(|r| validate(r, &new, &cluster, |_, _| {}))
            .map_err(|e| e.message)
    };
    assert_eq!(grow("new", "Bound"), Ok(()));
    expect![[r#"persistentvolumeclaims "data" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#]]
        .assert_eq(&grow("old", "Bound").expect_err("refused"));
    expect![[r#"persistentvolumeclaims "data" is forbidden: Only bound persistent volume claims can be expanded"#]]
        .assert_eq(&grow("new", "Pending").expect_err("refused"));
}

/// 2023-2727, 2023-2728, 2024-3177: rules about what a pod refers to hold for every kind of container and reference.
#[test]
fn cve_2023_2728_rules_cover_all_containers() {
    let env_from = json!({"name": "x", "envFrom": [{"secretRef": {"name": "hidden"}}]});
    let env = json!({"name": "x", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "k"}}}]});
    let mut pods = Vec::new();
    for container in [env_from, env] {
        for key in ["containers", "initContainers"] {
            let mut spec = json!({"serviceAccountName": "strict", "containers": [{"name": "c"}]});
            spec[key] = json!([container]);
            pods.push(spec);
        }
        // Ephemeral containers come later, and by a way of their own.
        let spec = json!({"serviceAccountName": "strict", "containers": [{"name": "c"}]});
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let case = Case {
            operation: Operation::Update,
            name: "p",
            old: Some(object(pod.clone())),
            ..create("pods/ephemeralcontainers", "ns")
        };
        pod["spec"]["ephemeralContainers"] = json!([container]);
        let refused = case.run(pod).expect_err("refused");
        assert!(refused.contains("hidden"), "{refused}");
    }
    let sources = json!([{"secret": {"name": "hidden"}}]);
    pods.push(json!({"serviceAccountName": "strict", "containers": [], "volumes": [{"name": "v", "projected": {"sources": sources}}]}));
    for spec in pods {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let refused = create("pods", "ns").run(pod).expect_err("refused");
        assert!(refused.contains("hidden"), "{refused}");
    }
}
