//! The security lessons that concern the road, one test each.

use access::User;
use http::Method;
use serde_json::json;

use crate::harness::Cluster;

/// 2019-11247: a cluster-scoped resource must not be reachable by a namespaced path, nor the other way round.
#[tokio::test]
async fn cve_2019_11247_scope_of_the_path() {
    let cluster = Cluster::start().await;
    cluster
        .admin
        .get("/api/v1/namespaces/default/nodes")
        .await
        .refused(404);
    cluster
        .admin
        .get("/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles")
        .await
        .refused(404);
    cluster.admin.get("/api/v1/configmaps/a").await.refused(404);
    cluster
        .admin
        .get("/api/v1/namespaces/a/namespaces/default")
        .await
        .refused(404);
}

/// 2022-3162, 2015-5305: names are validated before they become part of a storage key.
#[tokio::test]
async fn cve_2022_3162_names_lead_nowhere_else() {
    let cluster = Cluster::start().await;
    let account = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    cluster
        .admin
        .post("/api/v1/namespaces/kube-system/secrets", account)
        .await
        .ok();
    for path in [
        "/api/v1/namespaces/default/configmaps/..%2F..%2Fsecrets%2Fkube-system%2Fs",
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/%2e%2e/configmaps/x",
        "/api/v1/namespaces/..%2Fsecrets/configmaps",
    ] {
        let answer = cluster.admin.get(path).await;
        assert!(
            answer.code >= 400 && !answer.text.contains("hidden"),
            "{path}: {}",
            answer.text
        );
    }
    let named = json!({"metadata": {"name": "../x"}});
    cluster
        .admin
        .post("/api/v1/namespaces/default/configmaps", named)
        .await
        .refused(422);
}

/// A continue token leads no further than the list it belongs to.
#[tokio::test]
async fn continue_tokens_stay_in_their_namespace() {
    let cluster = Cluster::start().await;
    use base64::Engine;
    let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": "kube-system/"}).to_string();
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let path = format!("/api/v1/namespaces/default/secrets?continue={token}");
    cluster.admin.get(&path).await.refused(400);
}

/// 2019-11253: a body of aliases is refused before it is built.
#[tokio::test]
async fn cve_2019_11253_billion_laughs() {
    let cluster = Cluster::start().await;
    let mut yaml = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..10 {
        let before = format!("*a{}", i - 1);
        yaml.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(",")));
    }
    let headers = [("content-type", "application/yaml")];
    let path = "/api/v1/namespaces/default/configmaps";
    cluster
        .admin
        .send(Method::POST, path, &headers, yaml)
        .await
        .refused(400);
}

/// 2019-11254: nor does a body that is all depth keep anybody busy.
#[test]
fn cve_2019_11254_depth_is_bounded() {
    // On a thread like those of a server.
    let thread = std::thread::Builder::new().stack_size(apiserver::THREAD_STACK_BYTES);
    let thread = thread.spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(refuse_depth());
    });
    let refused = thread.expect("a thread").join();
    refused.expect("every body is refused");
}

async fn refuse_depth() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    for (media, body) in [
        ("application/yaml", "- ".repeat(500_000)),
        ("application/yaml", "{a: ".repeat(200_000)),
        ("application/json", "[".repeat(1_000_000)),
        ("application/json", "{\"a\":".repeat(200_000)),
    ] {
        let headers = [("content-type", media)];
        let refused = cluster.admin.send(Method::POST, path, &headers, body).await;
        refused.refused(400);
    }
}

/// 2015-5305: a name is a name, and never the way to another place in the store.
#[tokio::test]
async fn cve_2015_5305_names_are_no_paths() {
    let cluster = Cluster::start().await;
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = json!({"metadata": {"name": "s"}});
    cluster.admin.post(secrets, secret).await.ok();
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["..", ".", "a/b", "../secrets/s", "a%2fb"] {
        let map = json!({"metadata": {"name": name}});
        cluster.admin.post(maps, map).await.refused(422);
    }
    for path in [
        "..%2fsecrets%2fs",
        "%2e%2e",
        "a%2fb",
        "%2e%2e%2f%2e%2e%2fkube-system%2fs",
    ] {
        let found = cluster.admin.get(&format!("{maps}/{path}")).await;
        assert!(found.code >= 400, "{path}: {found:?}");
    }
}

/// 2020-8552: no more of a body is read than the API takes.
#[tokio::test]
async fn cve_2020_8552_bodies_are_bounded() {
    let cluster = Cluster::start().await;
    let body = vec![b' '; 4 << 20];
    let path = "/api/v1/namespaces/default/configmaps";
    cluster
        .admin
        .send(Method::POST, path, &[], body)
        .await
        .refused(413);
}

/// 2019-1002100: a patch cannot grow without bound.
#[tokio::test]
async fn cve_2019_1002100_json_patches_are_bounded() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    cluster
        .admin
        .post(path, json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let operation = json!({"op": "add", "path": "/data", "value": {}});
    let patch = json!(vec![operation; 20_000]);
    cluster
        .admin
        .patch(&format!("{path}/a"), "json", patch)
        .await
        .refused(413);
}

/// 2025-4563, 2025-5187: a node cannot make itself anew, nor touch others.
#[tokio::test]
async fn cve_2025_5187_nodes_are_restricted() {
    let cluster = Cluster::start().await;
    let node = cluster.as_user(User::new("system:node:n1", &["system:nodes"]));
    let object = |name: &str| json!({"metadata": {"name": name}});
    node.post("/api/v1/nodes", object("n1")).await.ok();
    node.post("/api/v1/nodes", object("n2")).await.refused(403);
    node.delete("/api/v1/nodes/n1").await.refused(403);
    let labels = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}});
    node.patch("/api/v1/nodes/n1", "merge", labels)
        .await
        .refused(403);
    let owners = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"},
    ]}});
    node.patch("/api/v1/nodes/n1", "merge", owners)
        .await
        .refused(403);
    node.get("/api/v1/namespaces/kube-system/secrets/s")
        .await
        .refused(403);
}

/// 2024-7598: nothing new comes into a namespace that is going.
#[tokio::test]
async fn cve_2024_7598_terminating_namespaces_take_nothing() {
    let cluster = Cluster::start().await;
    cluster
        .admin
        .post("/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    cluster.admin.delete("/api/v1/namespaces/a").await.ok();
    let map = json!({"metadata": {"name": "x"}});
    cluster
        .admin
        .post("/api/v1/namespaces/a/configmaps", map)
        .await
        .refused(403);
}

/// 2018-1002105: exec without an upgrade is no tunnel; without kubelet credentials there is none either.
#[tokio::test]
async fn cve_2018_1002105_no_upgrade_no_tunnel() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/pods/none/exec?command=id";
    cluster.admin.get(path).await.refused(404);
}

/// 2024-0793: one malformed stored object stops nobody.
#[tokio::test]
async fn cve_2024_0793_a_malformed_object_is_only_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = crate::harness::config(dir.path());
    for (key, value) in [
        ("configmaps/default/bad", "not JSON"),
        (
            "configmaps/default/odd",
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"labels":7},"data":[]}"#,
        ),
        (
            "pods/default/bad",
            r#"{"metadata":{"name":"bad"},"spec":{"containers":"none"}}"#,
        ),
        ("clusterroles/x", r#"{"metadata":{"name":7}}"#),
    ] {
        let put = store::Op::Put {
            key: format!("/registry/{key}").into(),
            value: value.to_owned().into(),
            ttl: None,
        };
        let txn = store::Txn {
            success: vec![put],
            ..store::Txn::default()
        };
        config.store.txn(txn).await.expect("a write");
    }
    let server = apiserver::Server::new(config).await.expect("a server");
    let admin = crate::harness::Client::of(&server, User::new("admin", &["system:masters"]));
    let path = "/api/v1/namespaces/default/configmaps";
    admin
        .post(path, json!({"metadata": {"name": "good"}}))
        .await
        .ok();
    let list = admin.get(path).await.ok();
    let items = list["items"].as_array().expect("items");
    assert!(items.iter().any(|i| i["metadata"]["name"] == "good"));
    admin.get(&format!("{path}/bad")).await.refused(500);
    admin.get("/api/v1/pods").await.ok();
    server.shut_down();
}

/// 2021-25737, 2020-8554: traffic is not drawn to the node itself, nor to an address that is somebody else's by nature.
#[tokio::test]
async fn cve_2021_25737_endpoints_are_no_loopback_addresses() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    for address in ["127.0.0.1", "169.254.169.254"] {
        let slice = json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "x"}},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": []});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        admin.post(slices, slice).await.refused(422);
        let endpoints = json!({"metadata": {"name": "x"},
            "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": 80}]}]});
        let path = "/api/v1/namespaces/default/endpoints";
        admin.post(path, endpoints).await.refused(422);
        let service = json!({"metadata": {"name": "x"},
            "spec": {"ports": [{"port": 80}], "externalIPs": [address]}});
        let path = "/api/v1/namespaces/default/services";
        admin.post(path, service).await.refused(422);
    }
}

/// 2020-8554: an operator can keep everybody from taking external addresses.
#[tokio::test]
async fn cve_2020_8554_external_addresses_can_be_denied() {
    let cluster = Cluster::with(|config| {
        let without = &mut config.policy.admission.without;
        without.remove("DenyServiceExternalIPs");
    });
    let cluster = cluster.await;
    let service = json!({"metadata": {"name": "x"},
        "spec": {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}});
    let refused = cluster
        .admin
        .post("/api/v1/namespaces/default/services", service)
        .await;
    let refused = refused.refused(403);
    assert!(
        refused
            .message()
            .ends_with("Use of external IPs is denied by admission control")
    );
}

/// 2019-11250, 2020-8565: what somebody shows to say who he is does not come back in answers. (A body that cannot be read
/// does, to who sent it, as a stock server's.)
#[tokio::test]
async fn cve_2019_11250_credentials_are_not_repeated() {
    let cluster = Cluster::start().await;
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    for token in ["hush", "aHVzaA.aHVzaA.aHVzaA", "abcdef.0123456789abcdef"] {
        let review = json!({"spec": {"token": token}});
        let answer = cluster.admin.post(path, review).await.ok();
        assert!(!answer["status"].to_string().contains(token), "{answer}");
    }
}
