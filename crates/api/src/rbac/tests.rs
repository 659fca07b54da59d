use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update};

#[test]
fn rules_are_about_resources_or_urls() {
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'a/b', namespace: c}, rules: [
           {}, {verbs: [get], nonResourceURLs: [/a]}, {verbs: [get], apiGroups: ['']}]}",
        expect![[r#"
            metadata.name: Invalid value: "a/b": may not contain '/'
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[0].verbs: Required value
            rules[1].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs
            rules[2].resources: Required value: resource rules must supply at least one resource
        "#]],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: 'a:b'}, rules: [
           {verbs: [get], nonResourceURLs: [/a], resources: [pods]}],
          aggregationRule: {clusterRoleSelectors: []}}",
        expect![[r#"
            rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and non-resource URLs
            aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
        "#]],
    );
}

fn binding(kind: &str, fields: &str) -> String {
    let namespace = if kind == "RoleBinding" {
        ", namespace: c"
    } else {
        ""
    };
    format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: a{namespace}}}, {fields}}}"
    )
}

#[test]
fn bindings_join_subjects_and_a_role() {
    let subjects = "subjects: [{kind: User, name: ''}, {kind: Robot, name: r}, {kind: Group, name: g, apiGroup: x},
                      {kind: ServiceAccount, name: S_, apiGroup: x}, {kind: ServiceAccount, name: s}]";
    check(
        &binding(
            "RoleBinding",
            &format!("roleRef: {{kind: User, name: '..', apiGroup: x}}, {subjects}"),
        ),
        expect![[r#"
            roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
            roleRef.kind: Unsupported value: "User": supported values: "Role", "ClusterRole"
            roleRef.name: Invalid value: "..": may not be '..'
            subjects[0].name: Required value
            subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
            subjects[2].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
            subjects[3].name: Invalid value: "S_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            subjects[3].apiGroup: Unsupported value: "x": supported values: ""
        "#]],
    );
    check(
        &binding(
            "ClusterRoleBinding",
            &format!("roleRef: {{kind: Role, name: ''}}, {subjects}"),
        ),
        expect![[r#"
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            roleRef.name: Required value
            subjects[0].name: Required value
            subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
            subjects[2].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
            subjects[3].name: Invalid value: "S_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            subjects[3].apiGroup: Unsupported value: "x": supported values: ""
            subjects[3].namespace: Required value
            subjects[4].namespace: Required value
        "#]],
    );
}

#[test]
fn the_role_of_a_binding_never_changes() {
    let old = binding("RoleBinding", "roleRef: {kind: Role, name: a}");
    let new = binding("RoleBinding", "roleRef: {kind: Role, name: b}");
    check_update(
        Part::Main,
        &old,
        &new,
        expect![[r#"
            roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"b"}: field is immutable
        "#]],
    );
}

#[test]
fn rows_name_roles_and_subjects() {
    check_row(
        &binding(
            "ClusterRoleBinding",
            "roleRef: {kind: ClusterRole, name: view}, subjects: [{kind: User, name: u}, {kind: User, name: v},
               {kind: Group, name: g}, {kind: ServiceAccount, namespace: ns, name: s}]",
        ),
        expect!["a | ClusterRole/view | <unknown> | u, v | g | ns/s"],
    );
    check_row(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole,
          metadata: {name: view, creationTimestamp: '2026-01-01T00:00:00Z'}}",
        expect!["view | 2026-01-01T00:00:00Z"],
    );
}
