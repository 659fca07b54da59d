//! Every kind of the table goes the whole road: made, read, written back in every encoding, patched in every way, watched,
//! listed, shown as a table, deleted. Its object is the minimal one of `crates/api/src/testdata`.

use api::{AnyKind, Scope, Verb};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, Events};

const ENCODINGS: [&str; 4] = [
    "application/json",
    "application/yaml",
    "application/cbor",
    "application/vnd.kubernetes.protobuf",
];

/// The server itself looks after these, and writes their status whenever it comes to that.
const LOOKED_AFTER: [&str; 3] = ["APIService", "CustomResourceDefinition", "FlowSchema"];

/// One kind, and where its object is.
struct Place {
    kind: &'static dyn AnyKind,
    collection: String,
    path: String,
    object: Value,
}

impl Place {
    fn of(kind: &'static dyn AnyKind) -> Self {
        let object = minimal(kind);
        let names = kind.names();
        let root = match names.group {
            "" => format!("/api/{}", names.version),
            group => format!("/apis/{group}/{}", names.version),
        };
        let collection = match kind.scope() {
            Scope::Cluster => format!("{root}/{}", names.plural),
            Scope::Namespaced => format!("{root}/namespaces/default/{}", names.plural),
        };
        let name = object["metadata"]["name"].as_str().expect("a name");
        let path = format!("{collection}/{}", name.replace(':', "%3A"));
        Self {
            kind,
            collection,
            path,
            object,
        }
    }

    fn title(&self) -> String {
        let names = self.kind.names();
        format!("{} {}", names.api_version(), names.kind)
    }
}

fn minimal(kind: &dyn AnyKind) -> Value {
    let names = kind.names();
    let version = names.api_version().replace('/', ".");
    let path = format!(
        "{}/../api/src/testdata/minimal/{version}.{}.yaml",
        env!("CARGO_MANIFEST_DIR"),
        names.kind
    );
    let yaml = std::fs::read_to_string(path).expect("a minimal object");
    let mut documents = machinery::codec::decode_yaml_documents(&yaml).expect("YAML");
    let mut object = documents.remove(0);
    if kind.scope() == Scope::Namespaced {
        object["metadata"]["namespace"] = "default".into();
    }
    if names.kind == "Job" {
        // What the server fills in by itself.
        object["spec"]
            .as_object_mut()
            .map(|spec| spec.remove("selector"));
        object["spec"]["template"]
            .as_object_mut()
            .map(|template| template.remove("metadata"));
    }
    object
}

async fn raw(admin: &Client, method: Method, path: &str, media: &str, body: Bytes) -> (u16, Bytes) {
    let headers = [("accept", media), ("content-type", media)];
    let answer = admin.open(method, path, &headers, body).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body");
    (code, body.to_bytes())
}

/// What is read in an encoding and written back in it changes nothing.
async fn round_trips(admin: &Client, place: &Place) {
    for media in ENCODINGS {
        let before = admin.get(&place.path).await.ok();
        let (code, body) = raw(admin, Method::GET, &place.path, media, Bytes::new()).await;
        assert_eq!(code, 200, "{} {media}", place.title());
        let (code, answer) = raw(admin, Method::PUT, &place.path, media, body).await;
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(code, 200, "{} {media}: {text}", place.title());
        let after = admin.get(&place.path).await.ok();
        assert_eq!(after, before, "{} {media}", place.title());
    }
}

/// Waits until the watch has told of this version of the object.
async fn told(events: &mut Events, place: &Place, wanted: &Value) {
    loop {
        let event = events.next().await.expect("an event");
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        if version(&event["object"]) == version(wanted) {
            assert_eq!(event["type"], "MODIFIED", "{}", place.title());
            assert_eq!(event["object"], *wanted, "{}", place.title());
            return;
        }
    }
}

/// Waits until the watch has told that the object is gone.
async fn told_gone(events: &mut Events, place: &Place) {
    loop {
        let event = events.next().await.expect("an event");
        let name = &event["object"]["metadata"]["name"];
        if event["type"] == "DELETED" && *name == place.object["metadata"]["name"] {
            return;
        }
    }
}

async fn patches(admin: &Client, place: &Place, events: &mut Events) {
    let label = |name: &str| json!({"metadata": {"labels": {name: "yes"}}});
    let mut applied = label("applied");
    let names = place.kind.names();
    applied["apiVersion"] = names.api_version().into();
    applied["kind"] = names.kind.into();
    let by_json = json!([{"op": "add", "path": "/metadata/labels/by-json", "value": "yes"}]);
    let path = place.path.as_str();
    for (kind, body, label) in [
        ("merge", label("merged"), "merged"),
        ("strategic-merge", label("strategic"), "strategic"),
        ("json", by_json, "by-json"),
    ] {
        let patched = admin.patch(path, kind, body).await.ok();
        assert_eq!(
            patched["metadata"]["labels"][label],
            "yes",
            "{}",
            place.title()
        );
        told(events, place, &patched).await;
    }
    let by = format!("{path}?fieldManager=table");
    let patched = admin.patch(&by, "apply", applied).await.ok();
    let managers = patched["metadata"]["managedFields"].to_string();
    assert!(
        managers.contains("\"Apply\""),
        "{}: {managers}",
        place.title()
    );
    told(events, place, &patched).await;
}

async fn lists(admin: &Client, place: &Place) {
    let selected = format!(
        "{}?labelSelector=merged%3Dyes,applied%3Dyes",
        place.collection
    );
    let found = admin.get(&selected).await.ok();
    let names = place.kind.names();
    assert_eq!(found["kind"], &*names.list_kind(), "{}", place.title());
    let items = found["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "{}", place.title());
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = admin.send(Method::GET, &selected, &table, "").await.ok();
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    // Upstream tells the age of an IPAddress and has no column for it.
    let columns = place.kind.columns().len() + usize::from(names.kind == "IPAddress");
    assert_eq!(cells.len(), columns, "{}", place.title());
}

async fn whole_road(admin: &Client, place: &Place) {
    let title = place.title();
    let made = admin.post(&place.collection, place.object.clone()).await;
    assert_eq!(made.code, 201, "{title}: {}", made.text);
    let version = made.body["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned();
    let looked_after = LOOKED_AFTER.contains(&place.kind.names().kind);
    if !looked_after {
        assert_eq!(admin.get(&place.path).await.ok(), made.body, "{title}");
        round_trips(admin, place).await;
    }
    let watch = format!("{}?watch=1&resourceVersion={version}", place.collection);
    let mut events = admin.watch(&watch).await;
    patches(admin, place, &mut events).await;
    lists(admin, place).await;
    if !looked_after {
        round_trips(admin, place).await;
    }
    admin.delete(&place.path).await.ok();
    let left = admin.get(&place.path).await;
    match left.code {
        404 => told_gone(&mut events, place).await,
        // Something else has to be done before it may go.
        _ => assert!(
            left.body["metadata"]["deletionTimestamp"].is_string(),
            "{title}"
        ),
    }
}

#[tokio::test]
async fn every_kind_goes_the_whole_road() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let account = json!({"metadata": {"name": "default"}});
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", account)
        .await
        .ok();
    let whole = |kind: &&&dyn AnyKind| kind.verbs() == Verb::ALL;
    let kinds: Vec<&'static dyn AnyKind> = api::KINDS.iter().filter(whole).copied().collect();
    assert!(kinds.len() > 55, "{}", kinds.len());
    for kind in kinds {
        whole_road(admin, &Place::of(kind)).await;
    }
}
