use expect_test::expect;

use crate::testing::{check, check_row};

fn policy(rest: &str) -> String {
    format!(
        "{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {{name: p}}, spec: {{
          matchConstraints: {{resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}}]}},
          {rest}}}}}"
    )
}

#[test]
fn policies_are_looked_at() {
    check(
        &policy(
            "validations: [{expression: 'object.spec.replicas < 3', messageExpression: '\"at most \" + string(object.spec.replicas)'}]",
        ),
        expect![[""]],
    );
    check(
        &policy(
            "variables: [{name: count, expression: object.spec.replicas}, {name: in, expression: '1'}], validations: [{expression: 'variables.count < 3'}, {expression: '1', reason: Odd}, {expression: 'params.x'}]",
        ),
        expect![[r#"
            spec.variables[1].name: Invalid value: "in": must be a valid CEL identifier
            spec.validations[1].expression: Invalid value: "1": must evaluate to bool but got int
            spec.validations[1].reason: Unsupported value: "Odd": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
            spec.validations[2].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
             | params.x
             | ^
        "#]],
    );
}

#[test]
fn bindings_are_looked_at() {
    let binding = |rest: &str| {
        format!(
            "{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {{name: b}}, spec: {{{rest}}}}}"
        )
    };
    check(
        &binding("policyName: p, validationActions: [Deny, Warn], paramRef: {}"),
        expect![[r#"
            spec.paramRef: Required value: one of name or selector must be specified
            spec.paramRef.parameterNotFoundAction: Required value
            spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
        "#]],
    );
    check_row(
        &binding(
            "policyName: p, validationActions: [Deny], paramRef: {name: x, parameterNotFoundAction: Deny}",
        ),
        expect!["b | p | */x | <unknown>"],
    );
}

#[test]
fn mutating_policies_are_looked_at() {
    let policy = |rest: &str| {
        format!(
            "{{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {{name: p}}, spec: {{
              matchConstraints: {{resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}}]}},
              {rest}}}}}"
        )
    };
    check(
        &policy(
            "reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: 'object.x ? [JSONPatch{op: \"remove\", path: \"/a\"}] : []'}}]",
        ),
        expect![[""]],
    );
    check(
        &policy(
            "mutations: [{patchType: JSONPatch, applyConfiguration: {expression: 'Object{}'}}, {patchType: ApplyConfiguration, applyConfiguration: {expression: '{}'}}, {patchType: Other}]",
        ),
        expect![[r#"
            spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch
            spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch
            spec.mutations[1].applyConfiguration.expression: Invalid value: "{}": must evaluate to Object but got map(dyn, dyn)
            spec.mutations[2].patchType: Unsupported value: "Other": supported values: "ApplyConfiguration", "JSONPatch"
            spec.reinvocationPolicy: Required value
        "#]],
    );
}
