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
            spec.strategy: Unsupported value: {"Type":"Swap","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"
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

#[test]
fn stateful_sets_are_looked_at() {
    let set = |spec: &str| deployment(spec).replace("Deployment", "StatefulSet");
    check(
        &set(
            "serviceName: A_b, podManagementPolicy: x, updateStrategy: {type: Recreate}, ordinals: {start: -1}",
        ),
        expect![[r#"
            spec.podManagementPolicy: Invalid value: "x": must be 'OrderedReady' or 'Parallel'
            spec.updateStrategy: Invalid value: {"Type":"Recreate","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'
            spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0
            spec.serviceName: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
        "#]],
    );
    let claim = "volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [x]}}]";
    check(
        &set(&format!(
            "{SELECTOR}, {TEMPLATE}, {claim}, updateStrategy: {{rollingUpdate: {{partition: -1, maxUnavailable: 0}}}}"
        )),
        expect![[r#"
            spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0
            spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0
            spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.volumeClaimTemplates[0].spec.resources[storage]: Required value
        "#]],
    );
    // A volume of the template that a claim of the same name replaces is not missed.
    let mounted = TEMPLATE.replace(
        "image: d",
        "image: d, volumeMounts: [{name: d, mountPath: /d}]",
    );
    let claim = "volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [ReadWriteOnce], resources: \
                 {requests: {storage: 1}}}}]";
    let old = set(&format!("{SELECTOR}, {mounted}, {claim}, serviceName: s"));
    check(&old, expect![[""]]);
    check_update(
        Part::Main,
        &old,
        &old.replace(
            "serviceName: s",
            "serviceName: t, replicas: 5, podManagementPolicy: Parallel",
        ),
        expect![[r#"
            spec.serviceName: Invalid value: "t": field is immutable
            spec.podManagementPolicy: Invalid value: "Parallel": field is immutable
        "#]],
    );
    check_row(
        &format!(
            "{}, status: {{replicas: 2, readyReplicas: 1}}}}",
            &old[..old.len() - 1]
        ),
        expect!["a | 1/0 | <unknown> | c | d"],
    );
}

#[test]
fn daemon_sets_are_looked_at() {
    let set = |spec: &str| deployment(spec).replace("Deployment", "DaemonSet");
    check(
        &set(&format!(
            "{SELECTOR}, {TEMPLATE}, updateStrategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 0}}}}"
        )),
        expect![[r#"
            spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0
        "#]],
    );
    check(
        &set(&format!(
            "{SELECTOR}, {TEMPLATE}, updateStrategy: {{rollingUpdate: {{maxUnavailable: 1, maxSurge: 10%}}}}"
        )),
        expect![[r#"
            spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "10%": may not be set when maxUnavailable is non-zero
        "#]],
    );
    check(
        &set(&format!(
            "{SELECTOR}, {TEMPLATE}, updateStrategy: {{type: x}}"
        )),
        expect![[r#"
            spec.updateStrategy: Unsupported value: {"Type":"x","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete"
        "#]],
    );
    let old = set(&format!("{SELECTOR}, {TEMPLATE}"));
    let stored = crate::testing::created(&old);
    let generation = |object: &machinery::Object| {
        let key = super::daemonset::TEMPLATE_GENERATION;
        object.str_at(&["metadata", "annotations", key]).to_owned()
    };
    assert_eq!(generation(&stored), "1");
    let (new, _) = crate::testing::updated(Part::Main, &stored, &old);
    assert_eq!(generation(&new), "1");
    let (new, _) =
        crate::testing::updated(Part::Main, &stored, &old.replace("image: d", "image: e"));
    assert_eq!(generation(&new), "2");
    check_row(
        &format!(
            "{}, status: {{desiredNumberScheduled: 3, currentNumberScheduled: 2, numberReady: 1, numberMisscheduled: 0}}}}",
            &old[..old.len() - 1]
        ),
        expect!["a | 3 | 2 | 1 | 0 | 0 | <none> | <unknown> | c | d | a=b"],
    );
}

#[test]
fn revisions_hold_an_object_that_stays() {
    let revision = |rest: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: ControllerRevision, metadata: {{name: a, namespace: b}}{rest}}}"
        )
    };
    check(
        &revision(", revision: -1"),
        expect![[r#"
            revision: Invalid value: -1: must be greater than or equal to 0
            data: Required value: data is mandatory
        "#]],
    );
    check_update(
        Part::Main,
        &revision(", revision: 1, data: {a: b}"),
        &revision(", revision: 2, data: {a: c}"),
        expect![[r#"
            data: Invalid value: {"a":"c"}: field is immutable
        "#]],
    );
    check_row(
        &revision(", revision: 7, data: {}").replace(
            "namespace: b",
            "namespace: b, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: u, controller: true}]",
        ),
        expect!["a | daemonset.apps/d | 7 | <unknown>"],
    );
}
