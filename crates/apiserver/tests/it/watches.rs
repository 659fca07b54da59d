//! Watches.

use http::Method;
use serde_json::{Value, json};

use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, color: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"color": color}}})
}

#[tokio::test]
async fn changes_arrive_in_order_from_a_revision_on() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let made = admin.post(MAPS, map("a", "red")).await.ok();
    let revision = made["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision");
    admin.post(MAPS, map("b", "red")).await.ok();
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    assert_eq!(events.next_name().await, "ADDED b");
    admin.delete(&format!("{MAPS}/a")).await.ok();
    let deleted = events.next().await.expect("an event");
    assert_eq!(
        (deleted["type"].as_str(), deleted["object"]["kind"].as_str()),
        (Some("DELETED"), Some("ConfigMap"))
    );
    let at = deleted["object"]["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision");
    assert!(at.parse::<u64>().expect("a number") > revision.parse::<u64>().expect("a number"));
}

#[tokio::test]
async fn the_old_paths_still_watch() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    cluster.admin.post(MAPS, map("b", "red")).await.ok();
    let mut events = cluster
        .admin
        .watch("/api/v1/watch/namespaces/default/configmaps/b")
        .await;
    assert_eq!(events.next_name().await, "ADDED b");
}

#[tokio::test]
async fn an_unset_revision_begins_with_the_state() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    for query in ["watch=1", "watch=1&resourceVersion=0"] {
        let mut events = cluster.admin.watch(&format!("{MAPS}?{query}")).await;
        assert_eq!(events.next_name().await, "ADDED a", "{query}");
    }
}

#[tokio::test]
async fn entering_and_leaving_a_selection() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.post(MAPS, map("a", "red")).await.ok();
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&labelSelector=color%3Dblue"))
        .await;
    let paint = |color: &str| json!({"metadata": {"labels": {"color": color}}});
    let path = format!("{MAPS}/a");
    admin.patch(&path, "merge", paint("blue")).await.ok();
    assert_eq!(events.next_name().await, "ADDED a");
    admin
        .patch(&path, "merge", json!({"data": {"k": "v"}}))
        .await
        .ok();
    assert_eq!(events.next_name().await, "MODIFIED a");
    admin.patch(&path, "merge", paint("red")).await.ok();
    let left = events.next().await.expect("an event");
    // The last state that was in the selection.
    assert_eq!(
        (
            &left["type"],
            &left["object"]["metadata"]["labels"]["color"]
        ),
        (&json!("DELETED"), &json!("blue"))
    );
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = cluster.admin.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.next_name().await, "ADDED a");
    let bookmark = events.next().await.expect("an event");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    cluster.admin.post(MAPS, map("b", "red")).await.ok();
    assert_eq!(events.next_name().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let cluster = Cluster::start().await;
    let query = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=0";
    let mut events = cluster.admin.watch(&format!("{MAPS}?{query}")).await;
    let last = events.next().await.expect("a bookmark");
    assert_eq!(
        (&last["type"], &last["object"]["kind"]),
        (&json!("BOOKMARK"), &json!("ConfigMap"))
    );
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn no_number_is_too_big() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    let most = i64::MAX;
    let mut events = cluster
        .admin
        .watch(&format!("{MAPS}?watch=1&timeoutSeconds={most}"))
        .await;
    assert_eq!(events.next_name().await, "ADDED a");
    for query in [
        format!("limit={most}"),
        format!("resourceVersion={}", u64::MAX),
        "limit=-1".to_owned(),
    ] {
        let answer = cluster.admin.get(&format!("{MAPS}?{query}")).await;
        assert!(matches!(answer.code, 200 | 504), "{query}: {}", answer.text);
    }
    let future = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={}",
        u64::MAX
    );
    let mut events = cluster.admin.watch(&future).await;
    cluster.admin.post(MAPS, map("b", "red")).await.ok();
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_revision_of_long_ago_is_gone() {
    let cluster = Cluster::start().await;
    let made = cluster.admin.post(MAPS, map("a", "red")).await.ok();
    let revision = made["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    for i in 0..2100 {
        let patch = json!({"data": {"n": i.to_string()}});
        cluster
            .admin
            .patch(&format!("{MAPS}/a"), "merge", patch)
            .await
            .ok();
    }
    let mut events = cluster
        .admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    let error = events.next().await.expect("an event");
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn tables_are_watched_too() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    cluster.admin.post(MAPS, map("b", "red")).await.ok();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let list = cluster
        .admin
        .send(
            Method::GET,
            &format!("{MAPS}?watch=1&timeoutSeconds=1"),
            &accept,
            "",
        )
        .await;
    let lines: Vec<Value> = list
        .text
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert!(lines[0]["object"]["columnDefinitions"].is_array());
    assert!(lines[1]["object"]["columnDefinitions"].is_null());
    assert_eq!(lines[1]["object"]["rows"][0]["cells"][0], "b");
}

/// Somebody who watches one name is not lost however much happens to the others.
#[tokio::test]
async fn a_watcher_of_one_field_value_has_changes_of_its_own() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.post(MAPS, map("mine", "red")).await.ok();
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dmine");
    let mut events = admin.watch(&path).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        loop {
            let name = events.next_name().await;
            let is_last = name.starts_with("DELETED");
            told.send(name).expect("somebody listens");
            if is_last {
                return;
            }
        }
    });
    assert_eq!(heard.recv().await.as_deref(), Some("ADDED mine"));
    // More than the cache keeps for those who come back.
    for i in 0..80 {
        let mut other = map(&format!("other-{i}"), "red");
        other["data"] = json!({"k": "v".repeat(60_000)});
        admin.post(MAPS, other).await.ok();
    }
    let path = format!("{MAPS}/mine");
    admin.put(&path, map("mine", "blue")).await.ok();
    admin.delete(&path).await.ok();
    assert_eq!(heard.recv().await.as_deref(), Some("MODIFIED mine"));
    assert_eq!(heard.recv().await.as_deref(), Some("DELETED mine"));
    reader.await.expect("an orderly end");
}

/// A WebSocket of an unmodified client library over the in-process transport.
async fn socket(
    cluster: &Cluster,
    path: &str,
    more: &[(&str, &str)],
) -> tokio_tungstenite::WebSocketStream<hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = [&headers, more].concat();
    let mut response = cluster.admin.open(Method::GET, path, &headers, "").await;
    assert_eq!(response.status(), 101);
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let upgraded = hyper::upgrade::on(&mut response).await.expect("an upgrade");
    let io = hyper_util::rt::TokioIo::new(upgraded);
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    tokio_tungstenite::WebSocketStream::from_raw_socket(io, role, None).await
}

#[tokio::test]
async fn events_come_over_a_websocket() {
    use futures::StreamExt;
    use tokio_tungstenite::tungstenite::Message;
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    cluster.admin.post(MAPS, map("b", "red")).await.ok();
    let path = format!("{MAPS}?watch=1");
    let mut socket = socket(&cluster, &path, &[]).await;
    let mut seen = Vec::new();
    cluster.admin.delete(&format!("{MAPS}/a")).await.ok();
    while seen.len() < 3 {
        let message = socket.next().await.expect("a message").expect("a message");
        let Message::Text(text) = message else {
            panic!("{message:?}")
        };
        let event: Value = serde_json::from_str(&text).expect("one event");
        let name = event["object"]["metadata"]["name"].clone();
        seen.push(format!("{} {}", event["type"], name));
    }
    assert_eq!(
        seen,
        [r#""ADDED" "a""#, r#""ADDED" "b""#, r#""DELETED" "a""#]
    );
    // Whoever goes is let go.
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}

    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let mut socket = self::socket(&cluster, &path, &[]).await;
    let first = socket.next().await.expect("a message").expect("a message");
    assert!(matches!(first, Message::Text(text) if text.contains("ADDED")));
    // The watch's time is over: the server closes.
    let last = socket.next().await.expect("a message").expect("a message");
    assert!(matches!(last, Message::Close(_)), "{last:?}");
    socket.close(None).await.ok();
}

#[tokio::test]
async fn events_come_over_a_websocket_in_every_shape() {
    use futures::StreamExt;
    use tokio_tungstenite::tungstenite::Message;
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", "red")).await.ok();
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let first = async |accept: &str| {
        let mut socket = socket(&cluster, &path, &[("accept", accept)]).await;
        socket.next().await.expect("a message").expect("a message")
    };
    let Message::Binary(event) = first("application/vnd.kubernetes.protobuf;stream=watch").await
    else {
        panic!("no binary message");
    };
    // The event itself: its type, field 1, without a length before it.
    assert!(event.starts_with(b"\n\x05ADDED"), "{event:?}");
    for kind in ["Table", "PartialObjectMetadata"] {
        let Message::Text(event) =
            first(&format!("application/json;as={kind};g=meta.k8s.io;v=v1")).await
        else {
            panic!("no text");
        };
        let event: Value = serde_json::from_str(&event).expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["kind"]),
            (&"ADDED".into(), &kind.into())
        );
    }
}

#[tokio::test]
async fn one_protocol_of_a_websocket_is_as_good_as_another_for_events() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let answer = async |protocol: &str| {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocol),
        ];
        let response = cluster.admin.open(Method::GET, &path, &headers, "").await;
        let chosen = response.headers().get("sec-websocket-protocol");
        let chosen = chosen.map(|name| name.to_str().expect("text").to_owned());
        (response.status().as_u16(), chosen)
    };
    for known in ["base64.binary.k8s.io", "anything"] {
        assert_eq!(answer(known).await, (101, Some(known.to_owned())));
    }
    assert_eq!(answer("binary.k8s.io, anything").await, (400, None));
}
