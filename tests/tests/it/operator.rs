//! An operator as users write them: a kind in two versions with a conversion webhook, admission webhooks, two replicas of which
//! the elected one works. It is built on kube-rs (`demo/operator`).

use cluster_tests::{Cluster, Namespace};

const OPERATOR: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator-demo}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: operator-demo}
subjects: [{kind: ServiceAccount, name: operator, namespace: NAMESPACE}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: operator-demo}
rules:
- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: ['*']}
- {apiGroups: [admissionregistration.k8s.io], resources: ['*'], verbs: [create, patch]}
- {apiGroups: [demo.oxikube.io], resources: [shouts, shouts/status, shouts/finalizers], verbs: ['*']}
- {apiGroups: [''], resources: [configmaps], verbs: [get, list, watch, create, patch]}
- {apiGroups: [''], resources: [secrets], verbs: [get, create]}
- {apiGroups: ['', events.k8s.io], resources: [events], verbs: [create, patch, update]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, watch, create, update, patch]}
---
apiVersion: v1
kind: Service
metadata: {name: operator}
spec: {selector: {app: operator}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: operator}
spec:
  replicas: 2
  selector: {matchLabels: {app: operator}}
  template:
    metadata: {labels: {app: operator}}
    spec:
      serviceAccountName: operator
      containers:
      - name: operator
        image: docker.io/oxikube/operator-demo:v1
        imagePullPolicy: IfNotPresent
        args: [operator]
        env:
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        readinessProbe: {httpGet: {path: /ready, port: 8443, scheme: HTTPS}, periodSeconds: 1}
"#;

/// What the operator leaves behind in the whole cluster.
struct Operator(Namespace);

impl Drop for Operator {
    fn drop(&mut self) {
        // Those that ask come first: nobody answers any more when the operator is gone.
        for what in [
            "validatingwebhookconfiguration/operator-demo",
            "mutatingwebhookconfiguration/operator-demo",
            "crd/shouts.demo.oxikube.io",
            "clusterrolebinding/operator-demo",
            "clusterrole/operator-demo",
        ] {
            self.0.kubectl(&["delete", "--ignore-not-found", what]);
        }
    }
}

impl Operator {
    /// Waits until a field has a value.
    #[track_caller]
    fn until(&self, what: &str, path: &str, wanted: &str) {
        self.0.wait(&[what], "create");
        self.0
            .wait(&[what], &format!("jsonpath={{{path}}}={wanted}"));
    }

    fn read(&self, what: &str, path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.0.kubectl(&["get", what, "-o", &path]).ok()
    }

    fn leader(&self) -> String {
        self.read("lease/operator-demo", ".spec.holderIdentity")
    }
}

fn first(name: &str, text: &str) -> String {
    format!(
        "apiVersion: demo.oxikube.io/v1\nkind: Shout\nmetadata: {{name: {name}}}\nspec: {{text: {text}, loud: true}}\n"
    )
}

#[test]
fn an_operator_with_webhooks_in_two_versions_hands_its_work_over() {
    let space = Cluster::shared().namespace("operator", 36);
    let manifest = OPERATOR.replace("NAMESPACE}", &format!("{}}}", space.name()));
    let operator = Operator(space);
    let space = &operator.0;
    space.input(&["apply", "-f", "-"], &manifest).ok();
    space.wait(&["deployment/operator"], "condition=Available");
    space.wait(&["validatingwebhookconfiguration/operator-demo"], "create");
    space.wait_established("crd/shouts.demo.oxikube.io");
    // Written in the first version; the webhooks hear of it in the second, in which it is stored.
    space
        .input(&["apply", "-f", "-"], &first("a", "hello big world"))
        .ok();
    operator.until("configmap/a", ".data.shouted", "HELLO BIG WORLD!");
    let both = [
        ("shouts.v2.demo.oxikube.io/a", ".spec.words[2]", "world"),
        (
            "shouts.v1.demo.oxikube.io/a",
            ".spec.text",
            "hello big world",
        ),
        ("shouts.v1.demo.oxikube.io/a", ".spec.loud", "true"),
        (
            "shouts.v1.demo.oxikube.io/a",
            ".metadata.labels.demo\\.oxikube\\.io/heard",
            "yes",
        ),
    ];
    for (what, path, wanted) in both {
        assert_eq!(operator.read(what, path), wanted, "{what} {path}");
    }
    let shown = space.kubectl(&["get", "shouts.v1.demo.oxikube.io"]).ok();
    assert_eq!(shown, "NAME   SHOUTED\na      HELLO BIG WORLD!\n");
    let unchanged = space.input(&["apply", "-f", "-"], &first("a", "hello big world"));
    assert_eq!(unchanged.ok(), "shout.demo.oxikube.io/a unchanged\n");
    assert_eq!(
        space
            .input(&["apply", "-f", "-"], &first("b", "darn"))
            .failed(),
        "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"shouts.demo.oxikube.io\" denied the request: nobody swears here\n"
    );
    let leader = operator.leader();
    space.kubectl(&["delete", "pod", &leader]).ok();
    space
        .input(&["apply", "-f", "-"], &first("c", "still here"))
        .ok();
    operator.until("shout/c", ".status.shouted", "STILL HERE!");
    assert_ne!(operator.read("shout/c", ".status.by"), leader);
    // The ConfigMap belongs to its shout, in whichever version that is deleted.
    space
        .kubectl(&["delete", "shouts.v1.demo.oxikube.io", "a"])
        .ok();
    space.wait(&["configmap/a"], "delete");
}
