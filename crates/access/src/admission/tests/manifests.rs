//! Files in, policies and webhooks or refusals out.

use expect_test::{Expect, expect};

use crate::admission::manifests::{Source, read};

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p.static.k8s.io}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: 'true'}]
";
const BINDING: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b.static.k8s.io}
spec: {policyName: p.static.k8s.io, validationActions: [Deny]}
";
const WEBHOOK: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w.static.k8s.io}
webhooks:
- name: a.example.com
  clientConfig: {url: 'https://example.com'}
  sideEffects: None
  admissionReviewVersions: [v1]
";

fn check(source: Source, texts: &[&str], expected: Expect) {
    let files = texts.iter().enumerate();
    let files = files.map(|(i, text)| (format!("{i}.yaml"), (*text).to_owned()));
    let files: Vec<(String, String)> = files.collect();
    let said = match read(source, &files) {
        Ok(found) => found.iter().map(|o| o.name()).collect::<Vec<_>>().join(" "),
        Err(why) => why,
    };
    expected.assert_eq(&said);
}

#[test]
fn policies_come_with_their_bindings() {
    let policies = |texts: &[&str], expected| check(Source::ValidatingPolicies, texts, expected);
    policies(
        &[POLICY, BINDING],
        expect!["p.static.k8s.io b.static.k8s.io"],
    );
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;
    policies(&[list, POLICY], expect!["p.static.k8s.io"]);
    policies(
        &[BINDING],
        expect![[
            r#"binding "b.static.k8s.io" references policy "p.static.k8s.io" which does not exist in the manifest directory"#
        ]],
    );
    policies(
        &[POLICY, POLICY],
        expect![[
            r#"error loading 1.yaml: duplicate name "p.static.k8s.io" found in file "1.yaml" (previously seen in "0.yaml")"#
        ]],
    );
    policies(
        &[&POLICY.replace(".static.k8s.io", "")],
        expect![[
            r#"error loading 0.yaml: "p" in file "0.yaml" must have a name ending with ".static.k8s.io""#
        ]],
    );
    policies(
        &[&POLICY.replace(
            "spec:",
            "spec:\n  paramKind: {apiVersion: v1, kind: ConfigMap}",
        )],
        expect![[
            r#"error loading 0.yaml: ValidatingAdmissionPolicy "p.static.k8s.io": spec.paramKind is not supported for static manifests"#
        ]],
    );
    policies(
        &[&POLICY.replace("'true'", "'1'")],
        expect![[
            r#"error loading 0.yaml: spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int"#
        ]],
    );
    policies(
        &[&POLICY.replace("spec:", "spec:\n  more: 1")],
        expect![[r#"error loading 0.yaml: strict decoding error: unknown field "spec.more""#]],
    );
    policies(
        &[WEBHOOK],
        expect![
            "error loading 0.yaml: unsupported resource type admissionregistration.k8s.io/v1, Kind=ValidatingWebhookConfiguration"
        ],
    );
}

#[test]
fn webhooks_are_reached_by_url() {
    let webhooks = |text: &str, expected| check(Source::ValidatingWebhooks, &[text], expected);
    webhooks(WEBHOOK, expect!["w.static.k8s.io"]);
    let service = WEBHOOK.replace(
        "url: 'https://example.com'",
        "service: {namespace: here, name: hook}",
    );
    webhooks(
        &service,
        expect![[
            r#"error loading 0.yaml: webhook "a.example.com" in "w.static.k8s.io" (file "0.yaml"): clientConfig.service is not supported for static manifests; use clientConfig.url instead"#
        ]],
    );
}
