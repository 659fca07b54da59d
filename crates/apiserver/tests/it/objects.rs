//! Writes, one object at a time.

use http::Method;
use serde_json::{Value, json};

use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn what_is_created_can_be_read_replaced_and_deleted() {
    let cluster = Cluster::start().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let made = cluster.admin.post(MAPS, map).await;
    assert_eq!(made.code, 201);
    let mut object = made.ok();
    assert_eq!(
        (object["kind"].as_str(), object["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1"))
    );
    assert!(
        object["metadata"]["uid"].is_string()
            && object["metadata"]["creationTimestamp"].is_string()
    );
    let path = format!("{MAPS}/a");
    assert_eq!(cluster.admin.get(&path).await.ok(), object);

    object["data"]["k"] = "w".into();
    let replaced = cluster.admin.put(&path, object.clone()).await.ok();
    assert_eq!(replaced["data"]["k"], "w");
    let stale = cluster.admin.put(&path, object).await.refused(409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let gone = cluster.admin.delete(&path).await.ok();
    assert_eq!(
        (gone["status"].as_str(), gone["details"]["name"].as_str()),
        (Some("Success"), Some("a"))
    );
    let missing = cluster.admin.get(&path).await.refused(404);
    assert_eq!(missing.message(), "configmaps \"a\" not found");
}

#[tokio::test]
async fn a_replacement_of_another_incarnation_is_refused() {
    let cluster = Cluster::start().await;
    let made = cluster
        .admin
        .post(MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let other = json!({"metadata": {"name": "a", "uid": "other"}});
    let refused = cluster
        .admin
        .put(&format!("{MAPS}/a"), other)
        .await
        .refused(409);
    let wanted = format!(
        "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
         /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: other, UID in object meta: {}",
        made["metadata"]["uid"].as_str().unwrap_or("")
    );
    assert_eq!(refused.message(), wanted);
    let late = json!({"preconditions": {"uid": "other"}});
    let path = format!("{MAPS}/a");
    cluster
        .admin
        .send(Method::DELETE, &path, &[], late.to_string())
        .await
        .refused(409);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_none() {
    let cluster = Cluster::start().await;
    let made = cluster
        .admin
        .post(MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let again = cluster
        .admin
        .put(&format!("{MAPS}/a"), made.clone())
        .await
        .ok();
    assert_eq!(
        made["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = Cluster::start().await;
    let made = cluster
        .admin
        .post(MAPS, json!({"metadata": {"generateName": "x-"}}))
        .await
        .ok();
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    let twice = json!({"metadata": {"name": name}});
    let taken = cluster.admin.post(MAPS, twice).await.refused(409);
    assert_eq!(taken.body["reason"], "AlreadyExists");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    let map = json!({"metadata": {"name": "a"}});
    let made = cluster
        .admin
        .post(&format!("{MAPS}?dryRun=All"), map.clone())
        .await;
    assert_eq!(made.code, 201);
    cluster.admin.get(&format!("{MAPS}/a")).await.refused(404);
    cluster
        .admin
        .post(&format!("{MAPS}?dryRun=Some"), map)
        .await
        .refused(422);
}

#[tokio::test]
async fn patches_of_every_kind() {
    let cluster = Cluster::start().await;
    let (path, admin) = (format!("{MAPS}/a"), &cluster.admin);
    admin
        .post(
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"k": "v", "l": "m"}}),
        )
        .await
        .ok();
    let merged = admin
        .patch(&path, "merge", json!({"data": {"k": null, "n": "o"}}))
        .await
        .ok();
    assert_eq!(merged["data"], json!({"l": "m", "n": "o"}));
    let operations = json!([{"op": "replace", "path": "/data/n", "value": "p"}]);
    assert_eq!(
        admin.patch(&path, "json", operations).await.ok()["data"]["n"],
        "p"
    );
    let strategic = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = admin.patch(&path, "strategic-merge", strategic).await.ok();
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    let media = [("content-type", "text/plain")];
    admin
        .send(Method::PATCH, &path, &media, "{}")
        .await
        .refused(415);
}

#[tokio::test]
async fn apply_creates_merges_and_finds_conflicts() {
    let cluster = Cluster::start().await;
    let (path, admin) = (format!("{MAPS}/a"), &cluster.admin);
    let config = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value},
        })
    };
    let by = |who: &str| format!("{path}?fieldManager={who}");
    let made = admin.patch(&by("one"), "apply", config("v")).await;
    assert_eq!(made.code, 201);
    let conflict = admin
        .patch(&by("two"), "apply", config("w"))
        .await
        .refused(409);
    assert_eq!(
        conflict.message(),
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    let forced = format!("{}&force=true", by("two"));
    assert_eq!(
        admin.patch(&forced, "apply", config("w")).await.ok()["data"]["k"],
        "w"
    );
    admin.patch(&path, "apply", config("w")).await.refused(422);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let cluster = Cluster::start().await;
    let (path, admin) = (format!("{MAPS}/a"), &cluster.admin);
    let map = json!({"metadata": {"name": "a", "finalizers": ["example.com/hold"]}});
    admin.post(MAPS, map).await.ok();
    let marked = admin.delete(&path).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let late = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/late"]}});
    admin.patch(&path, "merge", late).await.refused(422);
    admin
        .patch(&path, "merge", json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    admin.get(&path).await.refused(404);
    // Foreground deletion waits for the garbage collector.
    admin
        .post(MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let marked = admin
        .delete(&format!("{path}?propagationPolicy=Foreground"))
        .await
        .ok();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
}

#[tokio::test]
async fn a_namespace_goes_in_two_phases() {
    let cluster = Cluster::start().await;
    let (path, admin) = ("/api/v1/namespaces/a", &cluster.admin);
    admin
        .post("/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let mut marked = admin.delete(path).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let map = json!({"metadata": {"name": "x"}});
    let refused = admin
        .post("/api/v1/namespaces/a/configmaps", map)
        .await
        .refused(403);
    assert!(
        refused.message().contains("because it is being terminated"),
        "{}",
        refused.message()
    );
    marked["spec"]["finalizers"] = json!([]);
    admin.put(&format!("{path}/finalize"), marked).await.ok();
    admin.get(path).await.refused(404);
}

#[tokio::test]
async fn pods_go_gracefully_when_they_have_a_node() {
    let cluster = Cluster::start().await;
    let (pods, admin) = ("/api/v1/namespaces/default/pods", &cluster.admin);
    let account = json!({"metadata": {"name": "default"}});
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", account)
        .await
        .ok();
    let pod = json!({
        "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    admin.post(pods, pod.clone()).await.ok();
    let gone = admin.delete(&format!("{pods}/p")).await.ok();
    assert_eq!(gone["kind"], "Pod");
    admin.get(&format!("{pods}/p")).await.refused(404);

    admin.post(pods, pod).await.ok();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n"},
    });
    admin
        .post(&format!("{pods}/p/binding"), binding.clone())
        .await
        .refused(201);
    let twice = admin
        .post(&format!("{pods}/p/binding"), binding)
        .await
        .refused(409);
    assert!(
        twice
            .message()
            .ends_with("pod p is already assigned to node \"n\""),
        "{}",
        twice.message()
    );
    let bound = admin.get(&format!("{pods}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["generation"], 1);
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let marked = admin.delete(&format!("{pods}/p")).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = admin
        .delete(&format!("{pods}/p?gracePeriodSeconds=5"))
        .await
        .ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    admin
        .delete(&format!("{pods}/p?gracePeriodSeconds=0"))
        .await
        .ok();
    admin.get(&format!("{pods}/p")).await.refused(404);
}

#[tokio::test]
async fn parts_are_written_apart() {
    let cluster = Cluster::start().await;
    let (path, admin) = (
        "/apis/apps/v1/namespaces/default/deployments",
        &cluster.admin,
    );
    let deployment = json!({
        "metadata": {"name": "d"}, "status": {"replicas": 7},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }},
    });
    let made = admin.post(path, deployment).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"].get("replicas"), None);
    let one = format!("{path}/d");
    let status = json!({"spec": {"replicas": 9}, "status": {"replicas": 2}});
    let patched = admin
        .patch(&format!("{one}/status"), "merge", status)
        .await
        .ok();
    assert_eq!(
        (&patched["spec"]["replicas"], &patched["status"]["replicas"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(patched["metadata"]["generation"], 1);
    let scale = admin.get(&format!("{one}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("a=b"))
    );
    let rescaled = admin
        .patch(
            &format!("{one}/scale"),
            "merge",
            json!({"spec": {"replicas": 4}}),
        )
        .await;
    assert_eq!(rescaled.ok()["spec"]["replicas"], 4);
    let scaled = admin.get(&one).await.ok();
    assert_eq!(
        (
            &scaled["spec"]["replicas"],
            &scaled["metadata"]["generation"]
        ),
        (&json!(4), &json!(2))
    );
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let cluster = Cluster::start().await;
    let (path, admin) = ("/api/v1/namespaces/default/pods", &cluster.admin);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"foo": 1, "containers": [{"name": "c", "image": "i"}]}});
    let account = json!({"metadata": {"name": "default"}});
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", account)
        .await
        .ok();
    let strict = admin
        .post(&format!("{path}?fieldValidation=Strict"), pod.clone())
        .await
        .refused(400);
    assert_eq!(
        strict.message(),
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\""
    );
    let warned = admin.post(path, pod).await;
    assert_eq!(warned.code, 201);
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"spec.foo\\\"\""
    );
}

#[tokio::test]
async fn yaml_is_read_and_written() {
    let cluster = Cluster::start().await;
    let headers = [
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    let made = cluster
        .admin
        .send(
            Method::POST,
            MAPS,
            &headers,
            "metadata: {name: a}\ndata:\n  k: v\n",
        )
        .await;
    assert_eq!(made.code, 201);
    assert!(made.text.contains("\n  k: v\n"), "{}", made.text);
    let other = [("accept", "image/png")];
    cluster
        .admin
        .send(Method::GET, &format!("{MAPS}/a"), &other, "")
        .await
        .refused(406);
}

#[tokio::test]
async fn complaints_of_a_strict_reader_follow_the_document() {
    let cluster = Cluster::start().await;
    let text = r#"{"metadata": {"name": "m"}, "other": 1, "data": {"a": "1"}, "data": {"b": "2"}}"#;
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let json = [("content-type", "application/json")];
    let refused = cluster
        .admin
        .send(http::Method::POST, path, &json, text)
        .await;
    assert_eq!(
        refused.refused(400).message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"other\", duplicate field \"data\""
    );
}

#[tokio::test]
async fn bytes_may_be_listed() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/secrets";
    let secret = |data: Value| json!({"metadata": {"name": "listed"}, "data": {"k": data}});
    let made = cluster
        .admin
        .post(path, secret(json!([1, 2, null, 255])))
        .await;
    assert_eq!(made.ok()["data"]["k"], "AQIA/w==");
    let path = format!("{path}/listed");
    let patch = json!({"data": {"k": [1, 2, 3]}});
    let patched = cluster.admin.patch(&path, "merge", patch).await;
    assert_eq!(patched.ok()["data"]["k"], "AQID");
    let refused = cluster
        .admin
        .put(&path, secret(json!([300])))
        .await
        .refused(400);
    assert_eq!(
        refused.message(),
        "Secret in version \"v1\" cannot be handled as a Secret: json: cannot unmarshal number 300 into Go struct field \
         Secret.data of type uint8"
    );
}
