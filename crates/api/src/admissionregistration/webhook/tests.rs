use expect_test::expect;

use crate::Part;
use crate::testing::{check, check_row, check_update};

fn webhooks(kind: &str, hooks: &str) -> String {
    format!(
        "{{apiVersion: admissionregistration.k8s.io/v1, kind: {kind}WebhookConfiguration, metadata: {{name: a}},
           webhooks: [{hooks}]}}"
    )
}

const GOOD: &str = "name: a.b.c, clientConfig: {url: 'https://a/b'}, sideEffects: None, admissionReviewVersions: [v1]";

#[test]
fn webhooks_are_looked_at() {
    check(&webhooks("Mutating", &format!("{{{GOOD}}}")), expect![[""]]);
    check(
        &webhooks(
            "Mutating",
            "{name: a.b, clientConfig: {}, sideEffects: Some, failurePolicy: Maybe, matchPolicy: Some,
              timeoutSeconds: 31, reinvocationPolicy: Always, admissionReviewVersions: [v2, v2],
              namespaceSelector: {matchLabels: {a: '-'}}},
             {name: A.b.c, clientConfig: {url: 'http://u@/?x#y'}, admissionReviewVersions: []},
             {name: a.b.c, clientConfig: {url: 'https://a', service: {namespace: a, name: b}}, sideEffects: None,
              admissionReviewVersions: [v1beta1]},
             {name: a.b.c, clientConfig: {service: {namespace: '', name: b, path: a//b, port: 0}}, sideEffects: None,
              admissionReviewVersions: [v1]}"
        ),
        expect![[r#"
            webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[0].failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
            webhooks[0].matchPolicy: Unsupported value: "Some": supported values: "Equivalent", "Exact"
            webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
            webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
            webhooks[0].namespaceSelector.matchLabels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            webhooks[0].reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"
            webhooks[0].clientConfig: Required value: exactly one of url or service is required
            webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
            webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
            webhooks[1].name: Invalid value: "A.b.c": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            webhooks[1].sideEffects: Required value: must specify one of None, NoneOnDryRun
            webhooks[1].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
            webhooks[1].clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]
            webhooks[1].clientConfig.url: Invalid value: "u": user information is not permitted in the URL
            webhooks[1].clientConfig.url: Invalid value: "y": fragments are not permitted in the URL
            webhooks[1].clientConfig.url: Invalid value: "x": query parameters are not permitted in the URL
            webhooks[1].admissionReviewVersions: Required value: must specify one of v1, v1beta1
            webhooks[2].clientConfig: Required value: exactly one of url or service is required
            webhooks[3].clientConfig.service.name: Required value
            webhooks[3].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
            webhooks[3].clientConfig.service.path: Invalid value: "a//b": must start with a '/'
            webhooks[3].clientConfig.service.path: Invalid value: "a//b": segment[1] may not be empty
            webhooks[3].name: Duplicate value: "a.b.c"
        "#]],
    );
}

#[test]
fn rules_of_webhooks_are_looked_at() {
    let hook = |rest: &str| webhooks("Validating", &format!("{{{GOOD}, {rest}}}"));
    check(
        &hook(
            "rules: [{}, {operations: ['*', READ], apiGroups: ['*', apps], apiVersions: ['', '*'], scope: World,
              resources: ['*/*', pods]},
             {operations: ['*'], apiGroups: [''], apiVersions: [v1],
              resources: ['pods/*', pods/exec, '*/scale', a/scale, '', '*', pods]}]"
        ),
        expect![[r#"
            webhooks[0].rules[0].operations: Required value
            webhooks[0].rules[0].apiGroups: Required value
            webhooks[0].rules[0].apiVersions: Required value
            webhooks[0].rules[0].resources: Required value
            webhooks[0].rules[1].operations: Invalid value: ["*","READ"]: if '*' is present, must not specify other operations
            webhooks[0].rules[1].operations[1]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
            webhooks[0].rules[1].apiGroups: Invalid value: ["*","apps"]: if '*' is present, must not specify other API groups
            webhooks[0].rules[1].apiVersions: Invalid value: ["","*"]: if '*' is present, must not specify other API versions
            webhooks[0].rules[1].apiVersions[0]: Required value
            webhooks[0].rules[1].resources: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources
            webhooks[0].rules[1].scope: Unsupported value: "World": supported values: "*", "Cluster", "Namespaced"
            webhooks[0].rules[2].resources[1]: Invalid value: "pods/exec": if 'pods/*' is present, must not specify pods/exec
            webhooks[0].rules[2].resources[3]: Invalid value: "a/scale": if '*/scale' is present, must not specify a/scale
            webhooks[0].rules[2].resources[4]: Required value
            webhooks[0].rules[2].resources: Invalid value: ["pods/*","pods/exec","*/scale","a/scale","","*","pods"]: if '*' is present, must not specify other resources without subresources
        "#]],
    );
    check(
        &hook(
            "matchConditions: [{name: '', expression: ' '}, {name: a, expression: 'true'}, {name: a, expression: 'true'},
               {name: b, expression: 'object.x == '}, {name: c, expression: '1'}, {name: d, expression: 'params.x'}]",
        ),
        expect![[r#"
            webhooks[0].matchConditions[0].expression: Required value
            webhooks[0].matchConditions[0].name: Required value
            webhooks[0].matchConditions[2].name: Duplicate value: "a"
            webhooks[0].matchConditions[3].expression: Invalid value: "object.x ==": compilation failed: ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
             | object.x ==
             | ...........^
            webhooks[0].matchConditions[4].expression: Invalid value: "1": must evaluate to bool but got int
            webhooks[0].matchConditions[5].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
             | params.x
             | ^
        "#]],
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    let with = |side: &str| {
        webhooks(
            "Validating",
            &format!(
                "{{name: a.b.c, clientConfig: {{url: 'https://a/b'}}, sideEffects: {side}, admissionReviewVersions: [v1]}}"
            ),
        )
    };
    check_update(Part::Main, &with("Some"), &with("Unknown"), expect![[""]]);
    check_update(
        Part::Main,
        &with("None"),
        &with("Unknown"),
        expect![[r#"
        webhooks[0].sideEffects: Unsupported value: "Unknown": supported values: "None", "NoneOnDryRun"
    "#]],
    );
}

#[test]
fn the_table_counts_webhooks() {
    check_row(
        &webhooks("Mutating", &format!("{{{GOOD}}}")),
        expect!["a | 1 | <unknown>"],
    );
}
