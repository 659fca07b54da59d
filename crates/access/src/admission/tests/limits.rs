//! Limits of a namespace, quotas, classes.

use api::quota::Counted;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Operation, Settings, create, object};
use crate::admission::limited_resources;
use crate::admission::resource_quota::{Account, charge, counted};

fn spec_of(case: &super::Case<'_>, value: Value, pick: fn(&Value) -> Value, expected: Expect) {
    let text = match case.run(value) {
        Ok(object) => pick(&object).to_string(),
        Err(error) => error,
    };
    expected.assert_eq(&text);
}

fn pod(containers: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

#[test]
fn containers_get_defaults_of_their_namespace() {
    spec_of(
        &create("pods", "limited"),
        pod(
            json!([{"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "400m", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]),
        ),
        |pod| json!([pod["metadata"]["annotations"], pod["spec"]["containers"]]),
        expect![[
            r#"[{"kubernetes.io/limit-ranger":"LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c"},[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"512Mi"},"requests":{"cpu":"200m"}}},{"name":"d","resources":{"limits":{"cpu":"400m","memory":"1Gi"},"requests":{"cpu":"100m"}}}]]"#
        ]],
    );
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let refused = |resources: Value, expected: Expect| {
        create("pods", "limited").refuses(
            pod(json!([{"name": "c", "resources": resources}])),
            expected,
        );
    };
    refused(
        json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "400m", "memory": "2Gi"}}),
        expect![
            "403 pods \"p\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum memory usage per Container is 1Gi, but limit is 2Gi, cpu max limit to request ratio per Container is 4, but provided ratio is 8.000000]"
        ],
    );
    refused(
        json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
        expect!["403 pods \"p\" is forbidden: maximum cpu usage per Pod is 2, but limit is 3"],
    );
    create("persistentvolumeclaims", "limited").refuses(
        json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}}),
        expect!["403 persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"],
    );
}

#[test]
fn a_runtime_class_brings_overhead_and_nodes() {
    let with = |spec: Value| {
        let mut pod = pod(json!([{"name": "c"}]));
        let map = pod["spec"].as_object_mut().unwrap();
        map.extend(spec.as_object().unwrap().clone());
        pod
    };
    spec_of(
        &create("pods", "ns"),
        with(json!({"runtimeClassName": "boxed", "nodeSelector": {"a": "b"}})),
        |pod| {
            json!([
                pod["spec"]["overhead"],
                pod["spec"]["nodeSelector"],
                pod["spec"]["tolerations"][2]
            ])
        },
        expect![[r#"[{"cpu":"250m"},{"a":"b","box":"yes"},{"key":"box","operator":"Exists"}]"#]],
    );
    let case = create("pods", "ns");
    case.refuses(
        with(json!({"runtimeClassName": "boxed", "overhead": {"cpu": "1"}})),
        expect!["403 pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"],
    );
    case.refuses(
        with(json!({"overhead": {"cpu": "1"}})),
        expect!["403 pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"],
    );
    case.refuses(
        with(json!({"runtimeClassName": "lost"})),
        expect!["403 pods \"p\" is forbidden: pod rejected: RuntimeClass \"lost\" not found"],
    );
    case.refuses(
        with(json!({"runtimeClassName": "boxed", "nodeSelector": {"box": "no"}})),
        expect!["403 pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[box] = yes; pod.spec.nodeSelector[box] = no"],
    );
}

#[test]
fn an_ingress_gets_the_newest_default_class() {
    spec_of(
        &create("ingresses.networking.k8s.io", "ns"),
        json!({"metadata": {"name": "i"}, "spec": {}}),
        |ingress| ingress["spec"].clone(),
        expect![[r#"{"ingressClassName":"new"}"#]],
    );
}

fn charged(case: &super::Case<'_>, quota: Value, value: Value) -> String {
    let object = object(value);
    let account = Account::of(serde_json::from_value(quota).unwrap());
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let result = case.with(|request| {
        let counted: Option<Counted> = counted(request);
        charge(request, &counted.unwrap(), &object, vec![account], now)
    });
    match result {
        Ok(quotas) => {
            let used = quotas
                .iter()
                .map(|q| json!(q.status.as_ref().unwrap().used).to_string());
            used.collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{} {}", error.code, error.message),
    }
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "team", "namespace": "ns"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

#[test]
fn quotas_pay_until_they_are_empty() {
    let case = create("pods", "ns");
    let asks = |cpu: &str| pod(json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]));
    let limits = quota(
        json!({"pods": "2", "requests.cpu": "1", "count/secrets": "1"}),
        json!({"pods": "1", "requests.cpu": "600m", "count/secrets": "0"}),
    );
    expect![[r#"{"count/secrets":"0","pods":"2","requests.cpu":"900m"}"#]].assert_eq(&charged(
        &case,
        limits.clone(),
        asks("300m"),
    ));
    expect![[r#"403 pods "p" is forbidden: exceeded quota: team, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"#]]
        .assert_eq(&charged(&case, limits.clone(), asks("500m")));
    expect![[r#"403 pods "p" is forbidden: failed quota: team: must specify requests.cpu for: c"#]]
        .assert_eq(&charged(&case, limits, pod(json!([{"name": "c"}]))));
    let unknown = quota(json!({"pods": "2"}), json!({}));
    expect![[r#"403 pods "p" is forbidden: status unknown for quota: team, resources: pods"#]]
        .assert_eq(&charged(&case, unknown, asks("1")));
}

#[test]
fn a_change_costs_what_it_adds() {
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 1}]}});
    let mut case = create("services", "ns");
    case.operation = Operation::Update;
    case.old = Some(object(service("ClusterIP")));
    let limits = quota(
        json!({"services": "1", "services.nodeports": "1"}),
        json!({"services": "1", "services.nodeports": "0"}),
    );
    expect![[r#"{"services":"1","services.nodeports":"1"}"#]].assert_eq(&charged(
        &case,
        limits.clone(),
        service("NodePort"),
    ));
    expect![""].assert_eq(&charged(&case, limits, service("ExternalName")));
}

#[test]
fn what_is_limited_by_default_needs_a_quota() {
    let settings = Settings {
        limited_resources: limited_resources::read(&json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration", "limitedResources": [
                {"resource": "pods", "matchContains": ["requests.cpu"],
                 "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}]}))
        .expect("good"),
        ..Settings::default()
    };
    let check = |quotas: Vec<Value>, priority: &str, expected: Expect| {
        let mut pod = pod(json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]));
        pod["spec"]["priorityClassName"] = priority.into();
        let pod = object(pod);
        let said = create("pods", "ns").under(&settings, |request| {
            let counted = counted(request).expect("it is counted");
            let accounts = quotas
                .into_iter()
                .map(|quota| Account::of(serde_json::from_value(quota).expect("a quota")));
            let now = jiff::Timestamp::UNIX_EPOCH;
            charge(request, &counted, &pod, accounts.collect(), now)
        });
        let said = said.map_or_else(|e| format!("{} {}", e.code, e.message), |_| "ok".to_owned());
        expected.assert_eq(&said);
    };
    let cpu = || quota(json!({"requests.cpu": "9"}), json!({"requests.cpu": "0"}));
    let mut high = quota(json!({"pods": "9"}), json!({"pods": "0"}));
    high["spec"]["scopeSelector"] = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    check(
        Vec::new(),
        "",
        expect![[r#"403 pods "p" is forbidden: insufficient quota to consume: requests.cpu"#]],
    );
    check(vec![cpu()], "", expect!["ok"]);
    check(
        vec![cpu()],
        "high",
        expect!["500 insufficient quota to match these scopes: [{PriorityClass In [high]}]"],
    );
    check(vec![cpu(), high], "high", expect!["ok"]);
}
