use expect_test::expect;
use machinery::Object;
use serde_json::Value;

use crate::kind::Kind as _;
use crate::testing::{check, check_row, created, object};

use super::v1::HorizontalPodAutoscaler as Old;

const TARGET: &str = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}";

fn autoscaler(version: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: autoscaling/{version}, kind: HorizontalPodAutoscaler, metadata: {{name: a, namespace: b}}, spec: {{{TARGET}, {spec}}}}}"
    )
}

#[test]
fn bounds_and_metrics_make_sense() {
    check(
        &autoscaler("v2", "minReplicas: 0, maxReplicas: 0"),
        expect![[r#"
            spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas
            spec.maxReplicas: Required value
        "#]],
    );
    check(
        &autoscaler(
            "v2",
            "maxReplicas: 1, minReplicas: 2, metrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization}}}, {type: X}],
             behavior: {scaleUp: {policies: [], selectPolicy: Some}, scaleDown: {stabilizationWindowSeconds: 4000, policies: [{type: Pods, value: 0, periodSeconds: 2000}]}}"
        ),
        expect![[r#"
            spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`
            spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization
            spec.metrics[0].pods: Required value: must populate information for the given metric source
            spec.metrics[1].type: Unsupported value: "X": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
            spec.metrics[1].type: Unsupported value: "X": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
            spec.behavior.scaleUp.selectPolicy: Unsupported value: "Some": supported values: "Disabled", "Max", "Min"
            spec.behavior.scaleUp.policies: Required value: must specify at least one Policy
            spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600
            spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero
            spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800
        "#]],
    );
    check(
        &autoscaler("v1", "maxReplicas: 1").replace("apps/v1", "v1"),
        expect![[r#"
            spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group
        "#]],
    );
}

#[test]
fn rows_show_what_is_measured() {
    let with = |version: &str, spec: &str, status: &str| {
        let whole = autoscaler(version, spec);
        format!("{}, status: {{{status}}}}}", &whole[..whole.len() - 1])
    };
    check_row(
        &with(
            "v1",
            "maxReplicas: 5, minReplicas: 1, targetCPUUtilizationPercentage: 50",
            "currentReplicas: 2, desiredReplicas: 2, currentCPUUtilizationPercentage: 42",
        ),
        expect!["a | Deployment/web | cpu: 42%/50% | 1 | 5 | 2 | <unknown>"],
    );
    check_row(
        &with(
            "v2",
            "maxReplicas: 5, metrics: [
              {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}},
              {type: External, external: {metric: {name: q}, target: {type: Value, value: 30}}},
              {type: Pods, pods: {metric: {name: p}, target: {type: AverageValue, averageValue: 1}}}]",
            "currentReplicas: 2, desiredReplicas: 2",
        ),
        expect!["a | Deployment/web | memory: <unknown>/1Gi, <unknown>/30 + 1 more... | <unset> | 5 | 2 | <unknown>"],
    );
}

fn shown(object: &Object) -> String {
    let annotations = object.at(&["metadata", "annotations"]);
    let annotations = annotations.and_then(Value::as_object).into_iter().flatten();
    let mut out = format!("{}\n", object.at(&["spec"]).unwrap());
    for (key, value) in annotations {
        out.push_str(&format!("{key}: {}\n", value.as_str().unwrap()));
    }
    out
}

#[test]
fn the_older_version_holds_the_rest_in_annotations() {
    let mut object = created(&autoscaler(
        "v2",
        "maxReplicas: 5, behavior: {scaleUp: {stabilizationWindowSeconds: 5}}, metrics: [
           {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}},
           {type: Object, object: {describedObject: {kind: Service, name: s, apiVersion: v1}, metric: {name: r}, target: {type: Value, value: 100}}}]",
    ));
    let before = object.clone();
    Old::from_stored(&mut object);
    expect![[r#"
        {"maxReplicas":5,"minReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"},"targetCPUUtilizationPercentage":60}
        autoscaling.alpha.kubernetes.io/behavior: {"ScaleUp":{"StabilizationWindowSeconds":5,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15},{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","Policies":[{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":null}}
        autoscaling.alpha.kubernetes.io/metrics: [{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"r","targetValue":"100"}}]
    "#]]
    .assert_eq(&shown(&object));
    Old::to_stored(&mut object);
    let metrics = object.at(&["spec", "metrics"]).and_then(Value::as_array);
    assert_eq!(metrics.unwrap().len(), 2);
    assert_eq!(
        object.at(&["spec", "behavior"]),
        before.at(&["spec", "behavior"])
    );
    assert_eq!(object.at(&["status"]), before.at(&["status"]));
    assert_eq!(object.at(&["metadata", "annotations"]), None);
}

#[test]
fn the_older_version_too_has_a_default_metric() {
    let given = created(&autoscaler("v1", "maxReplicas: 5"));
    expect![[r#"
        {"maxReplicas":5,"minReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"},"targetCPUUtilizationPercentage":80}
    "#]]
    .assert_eq(&shown(&given));
    let mut broken = object(&autoscaler("v1", "maxReplicas: 5").replace(
        "namespace: b",
        "namespace: b, annotations: {autoscaling.alpha.kubernetes.io/metrics: \"{\"}",
    ));
    Old::to_stored(&mut broken);
    let metrics = broken.at(&["spec", "metrics"]).and_then(Value::as_array);
    assert_eq!(metrics.unwrap().len(), 1);
}
