//! Kinds too small for test files of their own.

use expect_test::expect;

use crate::kind::Part;
use crate::testing::check;

#[test]
fn leases_and_priority_classes_are_looked_at() {
    check(
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a, namespace: b},
          spec: {leaseDurationSeconds: 0, leaseTransitions: -1, strategy: Newest, preferredHolder: x}}",
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
    let class = |name: &str, rest: &str| {
        format!(
            "{{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: {name}}}, {rest}}}"
        )
    };
    check(
        &class("a", "value: 1000000001, preemptionPolicy: Maybe"),
        expect![[r#"
            value: Forbidden: maximum allowed value of a user defined priority is 1000000000
            preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never"
        "#]],
    );
    check(
        &class("system-mine", "value: 1"),
        expect![[r#"
        metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class
    "#]],
    );
    check(
        &class("system-node-critical", "value: 1"),
        expect![[r#"
        metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000
    "#]],
    );
    check(
        &class("system-node-critical", "value: 2000001000"),
        expect![[""]],
    );
    crate::testing::check_update(
        Part::Main,
        &class("a", "value: 1"),
        &class("a", "value: 2, preemptionPolicy: Never"),
        expect![[r#"
            value: Forbidden: may not be changed in an update.
            preemptionPolicy: Invalid value: "Never": field is immutable
        "#]],
    );
    crate::testing::check_row(
        &class("a", "value: 1, globalDefault: true"),
        expect!["a | 1 | true | <unknown> | "],
    );
}

#[test]
fn questions_are_well_put() {
    check(
        "{apiVersion: authorization.k8s.io/v1, kind: SubjectAccessReview, metadata: {name: x}, spec: {}}",
        expect![[r#"
            spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified
            spec.user: Invalid value: "": at least one of user or group must be specified
            metadata: Invalid value: {"name":"x"}: must be empty
        "#]],
    );
    check(
        "{apiVersion: authorization.k8s.io/v1, kind: LocalSubjectAccessReview, metadata: {namespace: a}, spec: {
           user: u, nonResourceAttributes: {path: /}, resourceAttributes: {namespace: b,
             fieldSelector: {rawSelector: x, requirements: [{key: '', operator: In}]}, labelSelector: {}}}}",
        expect![[r#"
            spec: Invalid value: {"Path":"/","Verb":""}: exactly one of nonResourceAttributes or resourceAttributes must be specified
            spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "x": may not specified at the same time as requirements
            spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified
            spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required
            spec.resourceAttributes.namespace: Invalid value: "b": must match metadata.namespace
            spec.nonResourceAttributes: Invalid value: {"Path":"/","Verb":""}: disallowed on this kind of request
        "#]],
    );
    check(
        "{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {expirationSeconds: 5,
           boundObjectRef: {kind: MutatingWebhookConfiguration, apiVersion: admissionregistration.k8s.io/v1},
           attestations: {admissionReviewAPIGroups: ['']}}}",
        expect![[r#"
            spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
            spec.audiences: Invalid value: []: must be length 1 when bound to a webhook config
            spec.attestations[admissionReviewAPIGroups][0]: Invalid value: "": may not be an empty string
        "#]],
    );
    check(
        "{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {attestations: {a: [b]}}}",
        expect![[r#"
            spec.attestations: Invalid value: {"a":["b"]}: attestations may only be specified with a webhook bound object reference
        "#]],
    );
    check(
        "{apiVersion: autoscaling/v1, kind: Scale, metadata: {name: a, namespace: b}, spec: {replicas: -1}}",
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
}
