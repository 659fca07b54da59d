//! Which webhooks are asked about which writes, and what they are shown of them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{GROUP, Hook, MAPS, configure, map, patch, reviewed, usual};
use crate::harness::Cluster;

#[tokio::test]
async fn selectors_and_equivalent_resources_decide_who_is_asked() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let rules = json!([{
        "operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
    }]);
    let selected = json!({"objectSelector": {"matchLabels": {"look": "here"}}});
    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"other": "place"}}});
    let hooks = json!([
        hook.spec("/equivalent/one", json!({"rules": rules})),
        hook.spec(
            "/exact/one",
            json!({"rules": rules, "matchPolicy": "Exact"})
        ),
        hook.spec("/selected/one", selected),
        hook.spec("/elsewhere/one", elsewhere),
    ]);
    configure(&cluster, "Validating", "a", hooks).await;
    let scaler = json!({"metadata": {"name": "a"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
    }});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    cluster.admin.post(path, scaler).await.ok();
    let asked = hook.take();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let request = &asked[0].1["request"];
    assert_eq!(asked[0].0, "/equivalent/one");
    assert_eq!(
        (
            &request["kind"]["version"],
            &request["requestKind"]["version"]
        ),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(
        request["object"]["spec"]["targetCPUUtilizationPercentage"],
        50
    );
    cluster.admin.post(MAPS, map("a")).await.ok();
    let mut labelled = map("b");
    labelled["metadata"]["labels"] = json!({"look": "here"});
    cluster.admin.post(MAPS, labelled).await.ok();
    let paths: Vec<String> = hook.take().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/selected/one"]);
}

#[tokio::test]
async fn subresources_have_kinds_of_their_own() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|path, asked| {
        let operation = &asked["request"]["operation"];
        let response = match operation == "CONNECT" {
            true => json!({"allowed": false, "status": {"message": "no connections"}}),
            false => json!({"allowed": true}),
        };
        assert_eq!(path, "/all");
        reviewed(asked, response)
    })
    .await;
    let rules = json!([{
        "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*", "serviceaccounts/token"],
    }]);
    let spec = hook.spec("/all", json!({"rules": rules, "name": "all.example.com"}));
    configure(&cluster, "Validating", "a", json!([spec])).await;
    let account = "/api/v1/namespaces/default/serviceaccounts";
    cluster.admin.post(account, map("a")).await.ok();
    let pod = json!({"metadata": {"name": "a"}, "spec": {
        "serviceAccountName": "a", "containers": [{"name": "c", "image": "i"}],
    }});
    cluster
        .admin
        .post("/api/v1/namespaces/default/pods", pod)
        .await
        .ok();
    let pod = "/api/v1/namespaces/default/pods/a";
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n"}});
    cluster
        .admin
        .post(&format!("{pod}/binding"), binding)
        .await
        .ok();
    let path = format!("{pod}/attach?stdin=true&container=c");
    let refused = cluster
        .admin
        .send(Method::POST, &path, &[], "")
        .await
        .refused(400);
    assert!(
        refused
            .message()
            .ends_with("denied the request: no connections")
    );
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    cluster
        .admin
        .post(&format!("{account}/a/token"), token)
        .await
        .ok();
    let evicted = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    cluster
        .admin
        .post(&format!("{pod}/eviction"), evicted)
        .await
        .ok();
    let told: Vec<String> = hook
        .take()
        .into_iter()
        .map(|(_, review)| {
            let request = &review["request"];
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            format!(
                "{} {} {}",
                text(&request["operation"]),
                text(&request["subResource"]),
                text(&request["kind"]["kind"])
            )
        })
        .collect();
    let wanted = [
        "CREATE  Pod",
        "CREATE binding Binding",
        "CONNECT attach PodAttachOptions",
        "CREATE token TokenRequest",
        "CREATE eviction Eviction",
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_custom_object_is_pruned_after_a_webhook_and_its_definition_may_be_refused() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|path, asked| {
        let response = match path {
            "/crd" => json!({"allowed": asked["request"]["object"]["metadata"]["labels"]["bad"].is_null()}),
            _ => patch(json!([
                {"op": "add", "path": "/data/known", "value": "yes"},
                {"op": "add", "path": "/data/unknown", "value": "yes"},
            ])),
        };
        reviewed(asked, response)
    })
    .await;
    let rule = |group: &str, resource: &str| {
        json!({"rules": [{
            "operations": ["CREATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource],
        }], "name": format!("{resource}.example.com")})
    };
    let crds = rule("apiextensions.k8s.io", "customresourcedefinitions");
    configure(
        &cluster,
        "Validating",
        "a",
        json!([hook.spec("/crd", crds)]),
    )
    .await;
    let things = rule("example.com", "things");
    configure(
        &cluster,
        "Mutating",
        "b",
        json!([hook.spec("/thing", things)]),
    )
    .await;
    let text = json!({"type": "string"});
    let data = json!({"type": "object", "properties": {"known": text, "own": text}});
    let mut definition = json!({
        "metadata": {"name": "things.example.com", "labels": {"bad": "yes"}},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"data": data}}}}],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let refused = cluster
        .admin
        .post(path, definition.clone())
        .await
        .refused(400);
    assert!(
        refused
            .message()
            .ends_with("denied the request without explanation")
    );
    definition["metadata"]["labels"] = json!({});
    cluster.admin.post(path, definition).await.ok();
    let mut watch = cluster.admin.watch(&format!("{path}?watch=true")).await;
    let established = async {
        while let Some(event) = watch.next().await {
            let conditions = event["object"]["status"]["conditions"].as_array().cloned();
            let mut conditions = conditions.into_iter().flatten();
            if conditions.any(|c| c["type"] == "Established" && c["status"] == "True") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), established)
        .await
        .expect("a kind");
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "data": {"own": "1"}});
    let path = "/apis/example.com/v1/namespaces/default/things";
    let made = cluster.admin.post(path, thing).await.ok();
    assert_eq!(made["data"], json!({"own": "1", "known": "yes"}));
}

#[tokio::test]
async fn conditions_decide_who_is_asked() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let condition = |text: &str| json!({"matchConditions": [{"name": "c", "expression": text}]});
    let hooks = json!([
        hook.spec(
            "/holds/here",
            condition("object.metadata.name.startsWith('a') && request.operation == 'CREATE'")
        ),
        hook.spec(
            "/may/not",
            condition("authorizer.group('').resource('pods').check('create').allowed() == false")
        ),
    ]);
    configure(&cluster, "Validating", "a", hooks).await;
    cluster.admin.post(MAPS, map("a")).await.ok();
    cluster.admin.post(MAPS, map("b")).await.ok();
    let paths: Vec<String> = hook.take().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/holds/here"]);
    let fails = hook.spec("/fails/here", condition("object.data.missing == 'x'"));
    configure(&cluster, "Validating", "b", json!([fails])).await;
    let refused = cluster.admin.post(MAPS, map("c")).await.refused(403);
    let why = r#"configmaps "c" is forbidden: "#;
    assert!(refused.message().starts_with(why), "{}", refused.message());
    let wrong = hook.spec("/wrong/here", condition("object.x ==="));
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let configuration = json!({"metadata": {"name": "c"}, "webhooks": [wrong]});
    let refused = cluster.admin.post(&path, configuration).await.refused(422);
    assert!(
        refused.message().contains("compilation failed"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_scale_is_shown_as_such() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|path, asked| {
        let response = match path {
            "/change" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])),
            _ => json!({"allowed": true}),
        };
        reviewed(asked, response)
    })
    .await;
    let rules = json!([{
        "operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"],
    }]);
    let spec = |path: &str| hook.spec(path, json!({"rules": rules, "name": "a.example.com"}));
    configure(&cluster, "Mutating", "a", json!([spec("/change")])).await;
    configure(&cluster, "Validating", "a", json!([spec("/see")])).await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    cluster.admin.post(deployments, deployment).await.ok();
    let scale = format!("{deployments}/d/scale");
    let wanted = json!({"spec": {"replicas": 2}});
    let scaled = cluster.admin.patch(&scale, "merge", wanted).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 5);
    let told: Vec<Value> = hook
        .take()
        .into_iter()
        .map(|(_, review)| {
            let request = &review["request"];
            assert_eq!(request["subResource"], "scale");
            assert_eq!(
                request["kind"],
                json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
            );
            assert_eq!(request["oldObject"]["kind"], "Scale");
            json!([
                request["oldObject"]["spec"]["replicas"],
                request["object"]["spec"]["replicas"]
            ])
        })
        .collect();
    assert_eq!(told, [json!([1, 2]), json!([1, 5])]);
}

#[tokio::test]
async fn a_webhook_is_shown_who_asks_as_a_kubeconfig_says() {
    use access::admission::manifests::Source;
    let dir = tempfile::tempdir().expect("a directory");
    let hook = Hook::start(usual).await;
    let place = hook.url.trim_start_matches("https://");
    let token = dir.path().join("token");
    std::fs::write(&token, "from-file\n").expect("written");
    let users = |all: Value| {
        let path = dir
            .path()
            .join(format!("{}", all.as_array().map_or(0, Vec::len)));
        let file = json!({"apiVersion": "v1", "kind": "Config", "users": all});
        std::fs::write(&path, file.to_string()).expect("written");
        path
    };
    // One plug-in names this very place, the other one's user is for every host there.
    let mutating = users(json!([
        {"name": place, "user": {"username": "api", "password": "pass"}},
        {"name": "*", "user": {"token": "for-others"}},
    ]));
    let (_, rest) = place.split_once('.').expect("an address");
    let validating = users(json!([
        {"name": format!("*.{rest}"), "user": {"tokenFile": "token"}},
        {"name": "elsewhere", "user": {"token": "for-others"}}, {"name": "*", "user": {}},
    ]));
    let cluster = Cluster::with(|config| {
        let users = &mut config.policy.admission.webhook_users;
        users.insert(Source::MutatingWebhooks, mutating);
        users.insert(Source::ValidatingWebhooks, validating);
    })
    .await;
    let specs = |path: &str| json!([hook.spec(path, json!({}))]);
    configure(&cluster, "Mutating", "a", specs("/one/a")).await;
    configure(&cluster, "Validating", "b", specs("/two/b")).await;
    cluster.admin.post(MAPS, map("a")).await.ok();
    let shown: Vec<Value> = hook
        .take()
        .iter()
        .map(|(_, b)| b["shown"].clone())
        .collect();
    assert_eq!(shown, ["Basic YXBpOnBhc3M=", "Bearer from-file"]);
}
