//! Lists, their pages and shapes.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, config};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn with_maps(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    for i in 0..count {
        let color = if i % 2 == 0 { "red" } else { "blue" };
        let map = json!({"metadata": {"name": format!("m{i}"), "labels": {"color": color}}});
        cluster.admin.post(MAPS, map).await.ok();
    }
    cluster
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|i| i["metadata"]["name"].as_str().unwrap_or("").to_owned())
        .collect()
}

#[tokio::test]
async fn selectors_select() {
    let cluster = with_maps(4).await;
    let list = |query: &'static str| {
        let admin = cluster.admin.clone();
        async move { admin.get(&format!("{MAPS}?{query}")).await }
    };
    assert_eq!(
        names(&list("labelSelector=color%3Dred").await.ok()),
        ["m0", "m2"]
    );
    assert_eq!(
        names(&list("labelSelector=color+notin+(red)").await.ok()),
        ["m1", "m3"]
    );
    assert_eq!(
        names(&list("fieldSelector=metadata.name%3Dm3").await.ok()),
        ["m3"]
    );
    let unknown = list("fieldSelector=spec.foo%3Dx").await.refused(400);
    assert!(
        unknown.message().contains("is not a known field selector"),
        "{}",
        unknown.message()
    );
}

#[tokio::test]
async fn events_are_selected_in_the_words_of_either_form() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"namespace": "default", "name": "it"}, "type": "Normal",
        "eventTime": "2017-09-19T13:49:16.000000Z", "reason": "Test", "action": "Do",
        "reportingController": "tester", "reportingInstance": "one",
    });
    let newer = "/apis/events.k8s.io/v1/namespaces/default/events";
    let older = "/api/v1/namespaces/default/events";
    admin.post(newer, event).await.ok();
    for query in [
        format!("{newer}?fieldSelector=reportingController%3Dtester"),
        format!("{newer}?fieldSelector=regarding.name%3Dit"),
        format!("{older}?fieldSelector=source%3Dtester"),
        format!("{older}?fieldSelector=involvedObject.name%3Dit"),
    ] {
        assert_eq!(names(&admin.get(&query).await.ok()), ["e"], "{query}");
    }
    let others = format!("{newer}?fieldSelector=reportingController%21%3Dtester");
    assert!(names(&admin.get(&others).await.ok()).is_empty());
}

#[tokio::test]
async fn pages_show_one_state() {
    let cluster = with_maps(5).await;
    let first = cluster.admin.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    cluster.admin.delete(&format!("{MAPS}/m3")).await.ok();
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = cluster
        .admin
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&second), ["m2", "m3"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().expect("a token");
    let last = cluster
        .admin
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&last), ["m4"]);
    assert!(last["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn an_exact_revision_is_the_past() {
    let cluster = with_maps(2).await;
    let list = cluster.admin.get(MAPS).await.ok();
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    cluster.admin.delete(&format!("{MAPS}/m0")).await.ok();
    let exact = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    assert_eq!(names(&cluster.admin.get(&exact).await.ok()), ["m0", "m1"]);
    assert_eq!(names(&cluster.admin.get(MAPS).await.ok()), ["m1"]);
    let alone = cluster
        .admin
        .get(&format!("{MAPS}?resourceVersionMatch=Exact"))
        .await
        .refused(422);
    assert!(
        alone
            .message()
            .contains("resourceVersionMatch is forbidden unless resourceVersion is provided")
    );
    let future = cluster
        .admin
        .get(&format!("{MAPS}?resourceVersion=100000"))
        .await
        .refused(504);
    assert!(
        future
            .message()
            .starts_with("Timeout: Too large resource version"),
        "{}",
        future.message()
    );
}

#[tokio::test]
async fn tables_and_metadata_alone() {
    let cluster = with_maps(1).await;
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let table = cluster.admin.send(Method::GET, MAPS, &table, "").await.ok();
    assert_eq!(
        (
            table["kind"].as_str(),
            table["rows"][0]["cells"][0].as_str()
        ),
        (Some("Table"), Some("m0"))
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let partial = cluster
        .admin
        .send(Method::GET, MAPS, &partial, "")
        .await
        .ok();
    assert_eq!(
        (partial["kind"].as_str(), names(&partial)),
        (Some("PartialObjectMetadataList"), vec!["m0".to_owned()])
    );
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let cluster = with_maps(4).await;
    cluster
        .admin
        .delete(&format!("{MAPS}?labelSelector=color%3Dred"))
        .await
        .ok();
    assert_eq!(names(&cluster.admin.get(MAPS).await.ok()), ["m1", "m3"]);
}

#[tokio::test]
async fn a_page_of_forgotten_history_goes_on_from_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path());
    let store = config.store.clone();
    let server = apiserver::Server::new(config).await.expect("a server");
    let admin = Client::of(&server, access::User::new("admin", &["system:masters"]));
    for i in 0..4 {
        admin
            .post(MAPS, json!({"metadata": {"name": format!("m{i}")}}))
            .await
            .ok();
    }
    let first = admin.get(&format!("{MAPS}?limit=2")).await.ok();
    admin.delete(&format!("{MAPS}/m2")).await.ok();
    store.compact(store.revision()).await.expect("a compaction");
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let expired = admin
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .refused(410);
    assert_eq!(expired.body["reason"], "Expired");
    let token = expired.body["metadata"]["continue"]
        .as_str()
        .expect("another token");
    let rest = admin
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&rest), ["m3"]);
    let revision = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision");
    let exact = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    admin.get(&exact).await.refused(410);
    server.shut_down();
}

/// Tokens that this server never gave, and what a stock server says of them.
#[tokio::test]
async fn tokens_that_lead_nowhere_are_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/configmaps?limit=1&continue=";
    let said = async |token: &str| {
        let answer = cluster.admin.get(&format!("{path}{token}")).await;
        answer.refused(400).message().to_owned()
    };
    let start = "invalid continue token: continue key is not valid: ";
    assert_eq!(
        said("a!b").await,
        format!("{start}illegal base64 data at input byte 1")
    );
    for (token, why) in [
        ("{}", "server does not recognize this encoded version "),
        (
            r#"{"v":"meta.k8s.io/v1","rv":0,"start":"default/a"}"#,
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            r#"{"v":"meta.k8s.io/v1","rv":5}"#,
            "encoded start key empty (version meta.k8s.io/v1)",
        ),
        (
            r#"{"v":"meta.k8s.io/v1","rv":5,"start":"default/../x"}"#,
            "default/../x",
        ),
        (
            r#"{"v":"meta.k8s.io/v1","rv":5,"start":"kube-system/x"}"#,
            "kube-system/x",
        ),
    ] {
        let token = URL_SAFE_NO_PAD.encode(token);
        assert_eq!(said(&token).await, format!("{start}{why}"));
    }
}
