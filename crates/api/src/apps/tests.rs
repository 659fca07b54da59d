use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update};

const TEMPLATE: &str =
    "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: d}]}}";
const SELECTOR: &str = "selector: {matchLabels: {a: b}}";

fn deployment(spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a, namespace: b}}, spec: {{{spec}}}}}"
    )
}

#[test]
fn a_selector_is_there_and_matches() {
    check(
        &deployment(""),
        expect![[r#"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
        spec.template.spec.containers: Required value
    "#]],
    );
    check(
        &deployment(&format!("selector: {{matchLabels: {{}}}}, {TEMPLATE}")),
        expect![[r#"
            spec.selector: Invalid value: {}: empty selector is invalid for deployment
        "#]],
    );
    check(
        &deployment(&format!(
            "selector: {{matchExpressions: [{{key: a, operator: In, values: [c]}}]}}, {TEMPLATE}"
        )),
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
        "#]],
    );
    let replica_set = deployment(TEMPLATE).replace("Deployment", "ReplicaSet");
    check(
        &replica_set,
        expect![[r#"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
    "#]],
    );
}

#[test]
fn numbers_and_strategies_make_sense() {
    check(
        &deployment(&format!(
            "replicas: -1, minReadySeconds: 700, revisionHistoryLimit: -1, {SELECTOR}, {TEMPLATE},
             strategy: {{rollingUpdate: {{maxSurge: 0, maxUnavailable: 0%}}}}"
        )),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
            spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
        "#]],
    );
    check(
        &deployment(&format!(
            "{SELECTOR}, {TEMPLATE}, strategy: {{rollingUpdate: {{maxSurge: x, maxUnavailable: 101%}}}}"
        )),
        expect![[r#"
            spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
        "#]],
    );
    check(
        &deployment(&format!(
            "{SELECTOR}, {TEMPLATE}, strategy: {{type: Recreate, rollingUpdate: {{}}}}"
        )),
        expect![[r#"
            spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
        "#]],
    );
    check(
        &deployment(&format!("{SELECTOR}, {TEMPLATE}, strategy: {{type: Swap}}")),
        expect![[r#"
            spec.strategy: Unsupported value: {"type":"Swap"}: supported values: "Recreate", "RollingUpdate"
        "#]],
    );
}

#[test]
fn a_selector_never_changes() {
    let old = deployment(&format!("{SELECTOR}, {TEMPLATE}"));
    check_update(
        Part::Main,
        &old,
        &old.replace("a: b}}", "a: c}}"),
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
        "#]],
    );
}

#[test]
fn counts_of_a_status_fit_each_other() {
    let with = |status: &str| {
        let base = deployment(&format!("{SELECTOR}, {TEMPLATE}"));
        format!("{}, status: {{{status}}}}}", &base[..base.len() - 1])
    };
    check_update(
        Part::Status,
        &with("collisionCount: 2"),
        &with(
            "replicas: 1, readyReplicas: 2, availableReplicas: 3, updatedReplicas: -1, collisionCount: 1",
        ),
        expect![[r#"
            status.updatedReplicas: Invalid value: -1: must be greater than or equal to 0
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
            status.collisionCount: Invalid value: 1: cannot be decremented
        "#]],
    );
}

#[test]
fn rows_count_replicas() {
    let spec = format!("replicas: 3, {SELECTOR}, {TEMPLATE}");
    let status =
        "status: {replicas: 3, readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2}";
    let deployment = deployment(&spec);
    let deployment = format!("{}, {status}}}", &deployment[..deployment.len() - 1]);
    check_row(
        &deployment,
        expect!["a | 2/3 | 1 | 2 | <unknown> | c | d | a=b"],
    );
    check_row(
        &deployment.replace("Deployment", "ReplicaSet"),
        expect!["a | 3 | 3 | 2 | <unknown> | c | d | a=b"],
    );
}
