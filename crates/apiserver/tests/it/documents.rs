//! What the server says about itself: discovery, OpenAPI, metrics; and bodies in protobuf.

use http::Method;
use serde_json::{Value, json};

use crate::harness::Cluster;

#[tokio::test]
async fn discovery_in_both_forms_names_every_kind() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let mut aggregated = Vec::new();
    for path in ["/api", "/apis"] {
        let answer = admin.send(Method::GET, path, &accept, "").await;
        assert!(
            answer.headers["content-type"]
                .to_str()
                .is_ok_and(|t| t.contains("as=APIGroupDiscoveryList"))
        );
        for group in answer.body["items"].as_array().expect("groups") {
            let name = group["metadata"]["name"].as_str().unwrap_or("");
            for version in group["versions"].as_array().expect("versions") {
                for resource in version["resources"].as_array().expect("resources") {
                    let parts = [
                        name,
                        version["version"].as_str().unwrap_or(""),
                        resource["resource"].as_str().unwrap_or(""),
                    ];
                    aggregated.push(parts.join("/"));
                }
            }
        }
        let etag = answer.headers["etag"].to_str().expect("text").to_owned();
        let known = [accept[0], ("if-none-match", etag.as_str())];
        admin.send(Method::GET, path, &known, "").await.refused(304);
    }
    for names in api::KINDS.iter().map(|k| k.names()) {
        let one = format!("{}/{}/{}", names.group, names.version, names.plural);
        assert!(aggregated.contains(&one), "{one}");
        let root = if names.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", names.api_version())
        };
        let list = admin.get(&root).await.ok();
        let all = list["resources"].as_array().expect("resources");
        assert!(
            all.iter()
                .any(|r| r["name"] == names.plural && r["kind"] == names.kind),
            "{one}"
        );
    }
}

#[tokio::test]
async fn openapi_documents_are_where_the_index_says() {
    let cluster = Cluster::start().await;
    let index = cluster.admin.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("a place");
    let document = cluster.admin.get(url).await.ok();
    assert!(
        document["components"]["schemas"]
            .get("io.k8s.api.apps.v1.Deployment")
            .is_some()
    );
    let accept = [(
        "accept",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    )];
    let second = cluster
        .admin
        .send(Method::GET, "/openapi/v2", &accept, "")
        .await;
    // Go's parser of media types takes no `@`.
    let wanted = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    assert_eq!(
        (second.code, second.headers["content-type"].to_str().ok()),
        (200, Some(wanted))
    );
    cluster
        .admin
        .get("/openapi/v3/apis/nothing/v1")
        .await
        .refused(404);
}

#[tokio::test]
async fn requests_are_counted() {
    let cluster = Cluster::start().await;
    cluster.admin.get("/api/v1/nodes").await.ok();
    let metrics = cluster.admin.get("/metrics").await;
    let wanted = "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"nodes\",\
        scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1\n";
    assert!(metrics.text.contains(wanted), "{}", metrics.text);
}

/// The names of `metric_names.txt` after a mark.
fn metric_names(mark: &str) -> impl Iterator<Item = &str> {
    let lines = include_str!("metric_names.txt").lines();
    let names = lines.filter_map(move |line| line.strip_prefix(mark)?.trim().split(' ').next());
    names.filter(|name| !name.is_empty())
}

#[tokio::test]
async fn metrics_have_the_names_of_a_stock_server() {
    let cluster = Cluster::start().await;
    cluster.admin.get("/api/v1/nodes").await.ok();
    let text = cluster.admin.get("/metrics").await.text;
    let shown: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let missing: Vec<&str> = metric_names("+").filter(|n| !shown.contains(n)).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
    let unwanted = metric_names("-").chain(metric_names("x"));
    let surplus: Vec<&str> = unwanted.filter(|n| shown.contains(n)).collect();
    assert!(surplus.is_empty(), "said not to be there: {surplus:?}");
    let mut once = shown.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), shown.len(), "a name is told twice");
    // The reference, where the machine has it.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let Ok(live) = std::fs::read_to_string(root.join("live-1.36.2/metrics.txt")) else {
        return;
    };
    let known = ["+", "-", "x"].into_iter().flat_map(metric_names);
    let known: Vec<&str> = known.collect();
    let names = live
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names.filter(|name| !name.starts_with("go_")) {
        assert!(known.contains(&name), "{name} is not in metric_names.txt");
    }
}

#[tokio::test]
async fn client_go_sends_protobuf() {
    let cluster = Cluster::start().await;
    let field = |number: u8, value: &[u8]| -> Vec<u8> {
        [
            &[
                number << 3 | 2,
                u8::try_from(value.len()).expect("a short value"),
            ],
            value,
        ]
        .concat()
    };
    let metadata = [field(1, b"a"), field(8, b"")].concat();
    let data = [field(1, b"k"), field(2, b"v")].concat();
    let raw = [field(1, &metadata), field(2, &data)].concat();
    let meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let body = [b"k8s\0".to_vec(), field(1, &meta), field(2, &raw)].concat();
    let headers = [
        ("content-type", "application/vnd.kubernetes.protobuf"),
        ("accept", "application/json"),
    ];
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let made: Value = cluster
        .admin
        .send(Method::POST, path, &headers, body)
        .await
        .ok();
    assert_eq!(
        (&made["metadata"]["name"], &made["data"]),
        (&json!("a"), &json!({"k": "v"}))
    );
}
