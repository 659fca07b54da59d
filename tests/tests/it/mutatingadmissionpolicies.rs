//! Mutating admission policies with the real kubectl: what they make of objects, what they see of each other.

use cluster_tests::{Cluster, KUBECTLS};

fn policies(name: &str, space: &str) -> String {
    let rules = format!(
        r#"
  matchConstraints:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {space}}}}}
    resourceRules:
    - {{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}}
  matchConditions:
  - {{name: not-the-limit, expression: "request.name != 'settings'"}}"#
    );
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{name: {name}-a}}
spec:{rules}
  reinvocationPolicy: IfNeeded
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: "Object{{metadata: Object.metadata{{labels: {{'entries': string(size(object.data))}}}}}}"
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{name: {name}-b}}
spec:{rules}
  paramKind: {{apiVersion: v1, kind: ConfigMap}}
  reinvocationPolicy: Never
  variables:
  - {{name: key, expression: "'added/' + params.data.key"}}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: "'more' in object.data ? [] : [JSONPatch{{op: 'add', path: '/data/more', value: variables.key}}]"
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{name: {name}-a}}
spec: {{policyName: {name}-a}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{name: {name}-b}}
spec:
  policyName: {name}-b
  paramRef: {{name: settings, namespace: {space}, parameterNotFoundAction: Deny}}
"#
    )
}

#[test]
fn policies_change_objects_and_see_what_others_changed() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("mutating-policy", minor);
        let name = format!("mutate-{minor}");
        let run = |arguments: &[&str]| space.kubectl(arguments).ok();
        run(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=key=value",
        ]);
        let all = policies(&name, space.name());
        space.input(&["apply", "-f", "-"], &all).ok();
        run(&["create", "configmap", "one", "--from-literal=a=b"]);
        let shown = "jsonpath={.metadata.labels.entries} {.data.more}";
        // The first policy looked again at what the second had added.
        let made = run(&["get", "configmap", "one", "-o", shown]);
        assert_eq!(made, "2 added/value");
        run(&["delete", "configmap", "settings"]);
        let refused = space
            .kubectl(&["create", "configmap", "two", "--from-literal=a=b"])
            .failed();
        let wanted = format!(
            "policy '{name}-b' with binding '{name}-b' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        );
        assert!(refused.contains(&wanted), "{refused}");
        for part in ["a", "b"] {
            let name = format!("{name}-{part}");
            run(&["delete", "mutatingadmissionpolicybinding", &name]);
            run(&["delete", "mutatingadmissionpolicy", &name]);
        }
        run(&["create", "configmap", "three", "--from-literal=a=b"]);
        let made = run(&["get", "configmap", "three", "-o", shown]);
        assert_eq!(made.trim(), "");
    }
}
