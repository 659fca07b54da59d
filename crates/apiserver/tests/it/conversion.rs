//! Custom kinds whose versions differ: a webhook of the test's own brings objects from one to the other.

use serde_json::{Value, json};

use crate::customresources::{CRDS, established};
use crate::harness::Cluster;
use crate::webhooks::Hook;

const V1: &str = "/apis/stable.example.com/v1/namespaces/default/endpoints";
const V2: &str = "/apis/stable.example.com/v2/namespaces/default/endpoints";
const NAME: &str = "endpoints.stable.example.com";

fn schema(properties: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": properties}}}})
}

/// In the first version host and port are one field, in the second two.
fn definition(hook: &Hook, path: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "endpoints", "singular": "endpoint", "kind": "Endpoint"},
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("{}{path}", hook.url), "caBundle": hook.bundle}}},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "schema": schema(json!({"hostPort": {"type": "string"}, "note": {"type": "string", "default": "none"}}))},
                {"name": "v2", "served": true, "storage": false,
                 "schema": schema(json!({"host": {"type": "string"}, "port": {"type": "string"},
                     "note": {"type": "string"}})),
                 "selectableFields": [{"jsonPath": ".spec.host"}],
                 "additionalPrinterColumns": [{"name": "Host", "type": "string", "jsonPath": ".spec.host"}]},
            ],
        },
    })
}

/// Answers reviews; the path may name what is wrong with the answer.
fn converts(path: &str, asked: &Value) -> Value {
    let request = &asked["request"];
    let wanted = request["desiredAPIVersion"].as_str().expect("a version");
    let convert = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = wanted.into();
        let spec = object["spec"].clone();
        let text = |key: &str| spec[key].as_str().unwrap_or("").to_owned();
        object["spec"] = match wanted.ends_with("/v2") {
            true => {
                let (host, port) = text("hostPort")
                    .split_once(':')
                    .map(|(h, p)| (h.to_owned(), p.to_owned()))
                    .unwrap_or_default();
                json!({"host": host, "port": port, "note": text("note"), "unknown": 1})
            }
            false => {
                json!({"hostPort": format!("{}:{}", text("host"), text("port")), "note": text("note")})
            }
        };
        object["metadata"]["finalizers"] = json!(["not/heeded"]);
        object["metadata"]["annotations"] = json!({"converted-to": wanted});
        if path == "/renames" {
            object["metadata"]["name"] = json!("other");
        }
        object
    };
    let objects = request["objects"].as_array().expect("objects");
    let result = match path {
        "/refuses" => json!({"status": "Failed", "message": "these cannot be converted"}),
        _ => json!({"status": "Success"}),
    };
    json!({
        "apiVersion": asked["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": result,
            "convertedObjects": objects.iter().map(convert).collect::<Vec<_>>()},
    })
}

fn first(name: &str, host_port: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "Endpoint", "metadata": {"name": name},
        "spec": {"hostPort": host_port}})
}

fn second(name: &str, host: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v2", "kind": "Endpoint", "metadata": {"name": name},
        "spec": {"host": host, "port": "80"}})
}

/// How many objects each question was about, since the last look.
fn sizes(hook: &Hook) -> Vec<usize> {
    let asked = hook.take().into_iter();
    asked
        .map(|(_, review)| review["request"]["objects"].as_array().map_or(0, Vec::len))
        .collect()
}

async fn started(path: &str) -> (Cluster, Hook) {
    let cluster = Cluster::start().await;
    let hook = Hook::start(converts).await;
    established(&cluster, definition(&hook, path)).await;
    (cluster, hook)
}

#[tokio::test]
async fn objects_go_from_one_version_to_the_other_and_back() {
    let (cluster, hook) = started("/convert").await;
    let admin = &cluster.admin;
    let made = admin.post(V1, first("a", "h:80")).await.ok();
    assert!(
        sizes(&hook).is_empty(),
        "what is stored needs no conversion"
    );
    let shown = admin.get(&format!("{V2}/a")).await.ok();
    assert_eq!(shown["apiVersion"], "stable.example.com/v2");
    // The default of the stored version goes along; what the shown version does not know is dropped.
    assert_eq!(
        shown["spec"],
        json!({"host": "h", "port": "80", "note": "none"})
    );
    let metadata = &shown["metadata"];
    assert_eq!(metadata["uid"], made["metadata"]["uid"]);
    assert_eq!(
        metadata["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    assert_eq!(metadata.get("finalizers"), None);
    assert_eq!(
        metadata["annotations"]["converted-to"],
        "stable.example.com/v2"
    );
    let mut changed = shown.clone();
    changed["spec"]["port"] = json!("81");
    let updated = admin.put(&format!("{V2}/a"), changed).await.ok();
    assert_eq!(updated["spec"]["port"], "81");
    assert_eq!(updated["metadata"]["generation"], 2);
    let stored = admin.get(&format!("{V1}/a")).await.ok();
    assert_eq!(stored["spec"], json!({"hostPort": "h:81", "note": "none"}));
    let one = format!("{V2}/a");
    admin
        .patch(&one, "merge", json!({"spec": {"host": "i"}}))
        .await
        .ok();
    let applied = admin
        .patch(
            &format!("{V2}/b?fieldManager=me"),
            "apply",
            second("b", "applied"),
        )
        .await
        .ok();
    assert_eq!(applied["spec"]["host"], "applied");
    let applied = admin
        .patch(
            &format!("{V2}/b?fieldManager=me"),
            "apply",
            second("b", "again"),
        )
        .await
        .ok();
    assert_eq!(applied["spec"]["host"], "again");
    let stored = admin.get(&format!("{V1}/b")).await.ok();
    assert_eq!(stored["spec"]["hostPort"], "again:80");
    admin.post(V2, second("c", "x")).await.ok();
    admin.delete(&format!("{V2}/c")).await.ok();
    admin.get(&format!("{V1}/c")).await.refused(404);
    let stored = admin.get(&format!("{V1}/a")).await.ok();
    assert_eq!(stored["spec"]["hostPort"], "i:81");
}

#[tokio::test]
async fn lists_are_one_question_and_are_remembered() {
    let (cluster, hook) = started("/convert").await;
    let admin = &cluster.admin;
    for n in 0..5 {
        admin
            .post(V1, first(&format!("e{n}"), &format!("h{n}:80")))
            .await
            .ok();
    }
    let list = admin.get(V2).await.ok();
    assert_eq!(sizes(&hook), [5]);
    let hosts: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|o| o["spec"]["host"].as_str())
        .collect();
    assert_eq!(hosts, ["h0", "h1", "h2", "h3", "h4"]);
    assert_eq!(list["kind"], "EndpointList");
    admin
        .put(&format!("{V1}/e0"), {
            let mut changed = admin.get(&format!("{V1}/e0")).await.ok();
            changed["spec"]["hostPort"] = json!("new:80");
            changed
        })
        .await
        .ok();
    let selected = admin
        .get(&format!("{V2}?fieldSelector=spec.host=new"))
        .await
        .ok();
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(sizes(&hook), [1], "only what has changed is asked about");
    let page = admin.get(&format!("{V2}?limit=2")).await.ok();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert!(page["metadata"]["continue"].is_string());
    let deleted = admin
        .delete(&format!("{V2}?fieldSelector=spec.host%21=h4"))
        .await
        .ok();
    assert_eq!(deleted["items"].as_array().map(Vec::len), Some(4));
    let left = admin.get(V1).await.ok();
    assert_eq!(left["items"][0]["metadata"]["name"], "e4");
    let metrics = admin.get("/metrics").await.text;
    assert!(
        metrics.contains(
            r#"apiserver_conversion_webhook_request_total{failure_type="",result="success"}"#
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains(
            r#"apiserver_crd_conversion_webhook_duration_seconds_count{crd_name="endpoints.stable.example.com",from_version="v1",succeeded="true",to_version="v2"}"#
        ),
        "{metrics}"
    );
}

#[tokio::test]
async fn watchers_see_their_version_and_ask_once() {
    let (cluster, hook) = started("/convert").await;
    let admin = &cluster.admin;
    admin.post(V1, first("a", "h:80")).await.ok();
    let mut one = admin.watch(&format!("{V2}?watch=true")).await;
    let mut other = admin.watch(&format!("{V2}?watch=true")).await;
    let mut chosen = admin
        .watch(&format!("{V2}?watch=true&fieldSelector=spec.host=h"))
        .await;
    for events in [&mut one, &mut other, &mut chosen] {
        let event = events.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["spec"]["host"]),
            (&json!("ADDED"), &json!("h"))
        );
    }
    assert_eq!(sizes(&hook), [1]);
    let moved = json!({"spec": {"hostPort": "moved:80"}});
    admin.patch(&format!("{V1}/a"), "merge", moved).await.ok();
    for events in [&mut one, &mut other] {
        let event = events.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["spec"]["host"]),
            (&json!("MODIFIED"), &json!("moved"))
        );
    }
    // Whoever chooses by a field of this version sees the object leave, in its last state.
    let event = chosen.next().await.expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["host"]),
        (&json!("DELETED"), &json!("h"))
    );
    assert_eq!(sizes(&hook), [1]);
    admin.delete(&format!("{V1}/a")).await.ok();
    let event = one.next().await.expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["host"]),
        (&json!("DELETED"), &json!("moved"))
    );
}

#[tokio::test]
async fn the_stored_version_may_change() {
    let (cluster, hook) = started("/convert").await;
    let admin = &cluster.admin;
    admin.post(V1, first("old", "h:80")).await.ok();
    let mut changed = definition(&hook, "/convert");
    changed["spec"]["versions"][0]["storage"] = json!(false);
    changed["spec"]["versions"][1]["storage"] = json!(true);
    let path = format!("{CRDS}/{NAME}");
    let patch = json!({"spec": {"versions": changed["spec"]["versions"]}});
    admin.patch(&path, "merge", patch).await.ok();
    admin.post(V1, first("new", "i:80")).await.ok();
    hook.take();
    let stored = admin.get(&path).await.ok();
    assert_eq!(stored["status"]["storedVersions"], json!(["v1", "v2"]));
    for (root, field, wanted) in [(V1, "hostPort", ["i:80", "h:80"]), (V2, "host", ["i", "h"])] {
        let list = admin.get(root).await.ok();
        let shown: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|o| o["spec"][field].as_str())
            .collect();
        assert_eq!(shown, wanted);
        // Each list has one object that is in its version already.
        assert_eq!(sizes(&hook), [1]);
        let one = admin.get(&format!("{root}/old")).await.ok();
        assert_eq!(one["spec"][field], wanted[1]);
        hook.take();
    }
    let mut events = admin.watch(&format!("{V2}?watch=true")).await;
    for wanted in ["i", "h"] {
        let event = events.next().await.expect("an event");
        assert_eq!(event["object"]["spec"]["host"], wanted);
    }
}

#[tokio::test]
async fn what_cannot_be_converted_is_said() {
    let (cluster, hook) = started("/refuses").await;
    let admin = &cluster.admin;
    admin.post(V1, first("a", "h:80")).await.ok();
    let refused = admin.get(&format!("{V2}/a")).await.refused(500);
    let why = "conversion webhook for stable.example.com/v1, Kind=Endpoint failed: these cannot be converted";
    assert_eq!((refused.message(), refused.body.get("reason")), (why, None));
    assert_eq!(admin.get(V2).await.refused(500).message(), why);
    let refused = admin.post(V2, second("b", "x")).await.refused(500);
    let why = "conversion webhook for stable.example.com/v2, Kind=Endpoint failed: these cannot be converted";
    assert_eq!(refused.message(), why);
    let mut events = admin.watch(&format!("{V2}?watch=true")).await;
    let event = events.next().await.expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(500))
    );
    let path = format!("{CRDS}/{NAME}");
    let url = format!("{}/renames", hook.url);
    let client = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": url}}}}});
    admin.patch(&path, "merge", client).await.ok();
    let refused = admin.get(&format!("{V2}/a")).await.refused(500);
    assert_eq!(
        refused.message(),
        "conversion webhook for stable.example.com/v1, Kind=Endpoint returned invalid object: must have the same name: a != other"
    );
    let client = json!({"spec": {"conversion": {"webhook": {"clientConfig": {
        "url": null, "service": {"namespace": "default", "name": "gone", "path": "/c"}}}}}});
    admin.patch(&path, "merge", client).await.ok();
    let refused = admin.get(&format!("{V2}/a")).await.refused(500);
    assert_eq!(
        refused.message(),
        r#"conversion webhook for stable.example.com/v1, Kind=Endpoint failed: Post "https://gone.default.svc:443/c?timeout=30s": service "gone" not found"#
    );
    // What is stored can still be read, and deleted, in its own version.
    admin.get(&format!("{V1}/a")).await.ok();
    admin.delete(&path).await.ok();
    for _ in 0..500 {
        if admin.get(&path).await.code == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the definition is not deleted");
}
