//! Validating admission policies with the real kubectl: in force as soon as a binding is there, gone with it.

use cluster_tests::{Cluster, KUBECTLS};

/// A policy over the ConfigMaps of namespaces with a label, whose limit another ConfigMap holds.
fn policy(name: &str, space: &str, action: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  paramKind: {{apiVersion: v1, kind: ConfigMap}}
  matchConstraints:
    resourceRules:
    - {{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE, DELETE], resources: [configmaps]}}
  matchConditions:
  - {{name: not-the-limit, expression: "request.name != 'limit'"}}
  variables:
  - {{name: entries, expression: "has(object.data) ? size(object.data) : 0"}}
  validations:
  - expression: "request.operation == 'DELETE' || variables.entries <= int(params.data.max)"
    messageExpression: "'%d entries are too many for ' .format([variables.entries]) + namespaceObject.metadata.name"
  - expression: "request.operation != 'DELETE' || !('keep' in oldObject.metadata.labels)"
    message: it is to be kept
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  paramRef: {{name: limit, parameterNotFoundAction: Deny}}
  validationActions: [{action}]
  matchResources:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {space}}}}}
"#
    )
}

#[test]
fn a_policy_with_parameters_holds_until_its_binding_goes() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("admission-policy", minor);
        let name = format!("few-entries-{minor}");
        let run = |arguments: &[&str]| space.kubectl(arguments).ok();
        let create = |name: &str, entries: usize| {
            let data: Vec<String> = (0..entries)
                .map(|n| format!("--from-literal=k{n}=v"))
                .collect();
            let mut arguments = vec!["create", "configmap", name];
            arguments.extend(data.iter().map(String::as_str));
            space.kubectl(&arguments)
        };
        run(&["create", "configmap", "limit", "--from-literal=max=2"]);
        let deny = policy(&name, space.name(), "Deny");
        space.input(&["apply", "-f", "-"], &deny).ok();
        create("few", 2).ok();
        let refused = create("many", 3).failed();
        let wanted = format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: 3 entries are too many for {}",
            space.name()
        );
        assert!(refused.contains(&wanted), "{refused}");
        run(&["label", "configmap", "few", "keep=yes"]);
        let kept = space.kubectl(&["delete", "configmap", "few"]).failed();
        assert!(kept.contains("denied request: it is to be kept"), "{kept}");
        let warn = policy(&name, space.name(), "Warn");
        space.input(&["apply", "-f", "-"], &warn).ok();
        let warned = create("many", 3);
        let wanted = format!("Warning: Validation failed for ValidatingAdmissionPolicy '{name}'");
        assert!(
            warned.code == 0 && warned.stderr.contains(&wanted),
            "{warned:?}"
        );
        let shown = run(&["get", "validatingadmissionpolicy", &name, "--no-headers"]);
        assert!(
            shown
                .split_whitespace()
                .take(3)
                .eq([&*name, "2", "v1/ConfigMap"]),
            "{shown}"
        );
        space.input(&["apply", "-f", "-"], &deny).ok();
        create("more", 3).failed();
        run(&["delete", "validatingadmissionpolicybinding", &name]);
        create("more", 3).ok();
        run(&["delete", "validatingadmissionpolicy", &name]);
    }
}
