use std::sync::Arc;

use expect_test::{Expect, expect};
use machinery::Object;
use serde_json::{Value, json};

use super::{Verdict, decide};

fn pod(ready: bool, phase: &str) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"metadata": {"name": "p", "namespace": "d", "labels": {"app": "web"}},
        "spec": {"containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
}

fn budget(name: &str, spec: Value, status: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": "d", "generation": 1, "resourceVersion": "5"}})
}

fn check(pod: Value, budgets: Vec<Value>, expected: Expect) {
    let pod = Object::from_value(pod).unwrap().view().unwrap();
    let budgets: Vec<Arc<Object>> = budgets
        .into_iter()
        .map(|b| Arc::new(Object::from_value(b).unwrap()))
        .collect();
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let text = match decide(&pod, &budgets, now) {
        Err(error) => format!("{}", error.to_status()),
        Ok(Verdict::Spend(budget)) => serde_json::to_string(&budget.status).unwrap(),
        Ok(other) => format!("{other:?}"),
    };
    expected.assert_eq(&text);
}

fn status(allowed: i32, healthy: i32) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": 2, "expectedPods": 3})
}

#[test]
fn a_pod_goes_when_its_budget_has_room() {
    check(
        pod(true, "Running"),
        vec![],
        expect![[r#"Evict { bound: false, budget: "" }"#]],
    );
    check(
        pod(true, "Running"),
        vec![budget("web", json!({}), status(1, 3))],
        expect![[
            r#"{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","message":"","observedGeneration":1,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":3,"desiredHealthy":2,"disruptedPods":{"p":"2026-01-02T03:04:05Z"},"disruptionsAllowed":0,"expectedPods":3,"observedGeneration":1}"#
        ]],
    );
}

#[test]
fn a_budget_without_room_says_why() {
    check(
        pod(true, "Running"),
        vec![budget("web", json!({}), status(0, 2))],
        expect![[
            r#"{"apiVersion":"v1","code":429,"details":{"causes":[{"message":"The disruption budget web needs 2 healthy pods and has 2 currently","reason":"DisruptionBudget"}]},"kind":"Status","message":"Cannot evict pod as it would violate the pod's disruption budget.","metadata":{},"reason":"TooManyRequests","status":"Failure"}"#
        ]],
    );
    let mut stale = status(1, 3);
    stale["observedGeneration"] = json!(0);
    check(
        pod(true, "Running"),
        vec![budget("web", json!({}), stale)],
        expect![[
            r#"{"apiVersion":"v1","code":429,"details":{"causes":[{"message":"The disruption budget web is still being processed by the server.","reason":"DisruptionBudget"}],"retryAfterSeconds":10},"kind":"Status","message":"Cannot evict pod as it would violate the pod's disruption budget.","metadata":{},"reason":"TooManyRequests","status":"Failure"}"#
        ]],
    );
}

#[test]
fn a_pod_that_is_not_ready_goes_while_others_are() {
    check(
        pod(false, "Running"),
        vec![budget("web", json!({}), status(0, 2))],
        expect![[r#"Evict { bound: true, budget: "web" }"#]],
    );
    let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
    check(
        pod(false, "Running"),
        vec![budget("web", always, status(0, 1))],
        expect![[r#"Evict { bound: true, budget: "web" }"#]],
    );
    check(
        pod(true, "Pending"),
        vec![budget("web", json!({}), status(0, 1))],
        expect![[r#"Evict { bound: true, budget: "" }"#]],
    );
    let two = ["a", "b"].map(|name| budget(name, json!({}), status(1, 3)));
    check(pod(true, "Running"), two.into(), expect!["Ambiguous"]);
}
