//! A chart through its life with helm 4: a Deployment, a StatefulSet, a custom kind and an object of it, roles, and jobs as
//! hooks.

use std::fs;
use std::path::Path;

use cluster_tests::{Cluster, Namespace};

const FILES: [(&str, &str); 7] = [
    (
        "Chart.yaml",
        "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: \"1\"\n",
    ),
    ("values.yaml", "replicas: 1\ncolor: red\n"),
    (
        "crds/widgets.yaml",
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.helm.example.com}
spec:
  group: helm.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {color: {type: string, enum: [red, blue]}}}
"#,
    ),
    (
        "templates/workloads.yaml",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}-web}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}-web}}
    spec:
      serviceAccountName: {{ .Release.Name }}
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}-data}
spec: {clusterIP: None, selector: {app: {{ .Release.Name }}-data}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: {{ .Release.Name }}-data}
spec:
  replicas: {{ .Values.replicas }}
  serviceName: {{ .Release.Name }}-data
  selector: {matchLabels: {app: {{ .Release.Name }}-data}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}-data}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
"#,
    ),
    (
        "templates/roles.yaml",
        r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: {{ .Release.Name }}}
rules: [{apiGroups: [helm.example.com], resources: [widgets], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: {{ .Release.Name }}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .Release.Name }}}
subjects: [{kind: ServiceAccount, name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}]
"#,
    ),
    (
        "templates/widget.yaml",
        r#"
apiVersion: helm.example.com/v1
kind: Widget
metadata: {name: {{ .Release.Name }}}
spec: {color: {{ .Values.color }}}
"#,
    ),
    (
        "templates/hooks.yaml",
        r#"
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}]
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"}
spec:
  restartPolicy: Never
  containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}]
"#,
    ),
];

fn chart(directory: &Path) -> String {
    for (name, text) in FILES {
        let path = directory.join("shop").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    directory.join("shop").to_str().expect("text").to_owned()
}

fn color(space: &Namespace) -> String {
    let path = "jsonpath={.spec.color}";
    space
        .kubectl(&["get", "widgets.helm.example.com/shop", "-o", path])
        .ok()
}

fn replicas(space: &Namespace) -> String {
    let path = "jsonpath={.items[*].status.readyReplicas}";
    space
        .kubectl(&["get", "deployments,statefulsets", "-o", path])
        .ok()
}

#[test]
fn a_release_from_install_to_uninstall() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("helm", 36);
    let directory = tempfile::tempdir().expect("a directory");
    let chart = chart(directory.path());
    let helm = |arguments: &[&str]| space.helm(arguments).ok();
    let wait = ["--wait", "--timeout", "120s"];
    let installed = helm(&[&["install", "shop", chart.as_str()], &wait[..]].concat());
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    assert_eq!(
        (color(&space).as_str(), replicas(&space).as_str()),
        ("red", "1 1")
    );
    let job = [
        "get",
        "job",
        "shop-before",
        "-o",
        "jsonpath={.status.succeeded}",
    ];
    assert_eq!(space.kubectl(&job).ok(), "1");
    let account = format!("--as=system:serviceaccount:{}:shop", space.name());
    assert_eq!(
        space
            .kubectl(&[
                "auth",
                "can-i",
                "list",
                "widgets.helm.example.com",
                &account
            ])
            .ok(),
        "yes\n"
    );

    let values = ["--set", "replicas=2,color=blue"];
    let upgrade = [&["upgrade", "shop", chart.as_str()], &values[..], &wait[..]].concat();
    assert!(helm(&upgrade).contains("REVISION: 2"));
    assert_eq!(
        (color(&space).as_str(), replicas(&space).as_str()),
        ("blue", "2 2")
    );
    let tested = helm(&["test", "shop", "--timeout", "120s"]);
    assert!(tested.contains("Phase:          Succeeded"), "{tested}");
    let wrong = ["upgrade", "shop", chart.as_str(), "--set", "color=green"];
    let refused = space.helm(&wrong).failed();
    assert!(
        refused.contains("Unsupported value: \"green\""),
        "{refused}"
    );

    helm(&[&["rollback", "shop", "1"], &wait[..]].concat());
    assert_eq!(
        (color(&space).as_str(), replicas(&space).as_str()),
        ("red", "1 1")
    );
    let history = helm(&["history", "shop"]);
    assert!(history.contains("Rollback to 1"), "{history}");
    assert!(helm(&["list"]).contains("shop-1.0.0"));

    helm(&[&["uninstall", "shop"], &wait[..]].concat());
    let left = [
        "get",
        "deployments,statefulsets,widgets.helm.example.com,roles",
        "-o",
        "name",
    ];
    assert_eq!(space.kubectl(&left).ok(), "");
    // As helm has it, definitions stay.
    space
        .kubectl(&["delete", "crd", "widgets.helm.example.com"])
        .ok();
}
