//! What the server says of itself: `/statusz`, `/flagz`, `/metrics/slis` and the checks of its health.

use expect_test::expect;
use http::Method;

use access::User;
use serde_json::{Value, json};

use crate::harness::Cluster;

#[tokio::test]
async fn a_server_says_what_it_is_to_who_may_know() {
    let cluster = Cluster::with(|config| {
        config.flags = [("secure-port".to_owned(), "6443".to_owned())].into();
    })
    .await;
    let accept = [(
        "accept",
        "application/json;v=v1beta1;g=config.k8s.io;as=Statusz",
    )];
    let status = cluster
        .admin
        .send(Method::GET, "/statusz", &accept, "")
        .await;
    let media = "application/json;g=config.k8s.io;v=v1beta1;as=Statusz";
    assert_eq!(status.headers["content-type"], media);
    let paths = &status.body["paths"];
    expect![[r#"["/flagz","/healthz","/livez","/metrics","/readyz","/statusz","/version"]"#]]
        .assert_eq(&paths.to_string());
    let flags = cluster.admin.send(Method::POST, "/flagz", &[], "").await;
    assert!(
        flags.text.ends_with("\nsecure-port=6443\n"),
        "{}",
        flags.text
    );
    let accept = [("accept", "application/json")];
    let refused = cluster.admin.send(Method::GET, "/flagz", &accept, "").await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (406, &"NotAcceptable".into())
    );
    let somebody = cluster.as_user(User::new("somebody", &[]));
    let monitoring = cluster.as_user(User::new("prometheus", &["system:monitoring"]));
    for path in ["/statusz", "/flagz", "/metrics/slis", "/metrics"] {
        somebody.get(path).await.refused(403);
        assert_eq!(monitoring.get(path).await.code, 200, "{path}");
    }
    for path in ["/statusz/x", "/flagz/", "/livez/", "/livez/nothing"] {
        assert_eq!(cluster.admin.get(path).await.code, 404, "{path}");
    }
}

/// The figure of these labels; 0 when it is not there.
fn figure(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample));
    line.map_or(0.0, |rest| rest.trim().parse().expect("a number"))
}

#[tokio::test]
async fn what_happens_is_counted() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let spaces = "/api/v1/namespaces";
    let space = json!({"metadata": {"name": "strict", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/warn": "restricted",
    }}});
    admin.post(spaces, space).await.ok();
    let pod = |privileged: bool| {
        json!({"metadata": {"generateName": "a-"}, "spec": {
            "serviceAccountName": "a", "automountServiceAccountToken": false, "containers": [{
                "name": "a", "image": "a", "securityContext": {"privileged": privileged},
            }],
        }})
    };
    let account = json!({"metadata": {"name": "a"}});
    let accounts = "/api/v1/namespaces/strict/serviceaccounts";
    admin.post(accounts, account).await.ok();
    let pods = "/api/v1/namespaces/strict/pods";
    admin.post(pods, pod(true)).await.refused(403);
    admin.post(pods, pod(false)).await.ok();
    let service = |address: Value| {
        json!({"metadata": {"generateName": "s-"}, "spec": {
            "type": "NodePort", "clusterIP": address, "ports": [{"port": 80}],
        }})
    };
    let services = "/api/v1/namespaces/strict/services";
    admin.post(services, service(Value::Null)).await.ok();
    admin
        .post(services, service("10.96.0.200".into()))
        .await
        .ok();
    admin
        .post(services, service("10.96.0.200".into()))
        .await
        .refused(422);
    let token = admin
        .post(&format!("{accounts}/a/token"), json!({"spec": {}}))
        .await
        .ok();
    let token = token["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    admin.post(reviews, review).await.ok();
    let state = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = admin.watch(&format!("{pods}?watch=true&{state}")).await;
    watch.next().await.expect("the pod");
    watch.next().await.expect("a bookmark");
    let page = admin.get("/metrics").await.text;
    let evaluated = |decision: &str, mode: &str, level: &str, version: &str| {
        format!(
            "pod_security_evaluations_total{{decision=\"{decision}\",mode=\"{mode}\",policy_level=\"{level}\",\
             policy_version=\"{version}\",request_operation=\"create\",resource=\"pod\",subresource=\"\"}}"
        )
    };
    let given = "kube_apiserver_clusterip_allocator_allocation";
    let list = "group=\"\",resource=\"pods\",scope=\"namespace\",version=\"v1\"";
    for (sample, wanted) in [
        (evaluated("deny", "enforce", "baseline", "v1.30"), 1.0),
        (evaluated("allow", "enforce", "baseline", "v1.30"), 1.0),
        (evaluated("deny", "warn", "restricted", "latest"), 1.0),
        (
            format!("{given}_total{{cidr=\"10.96.0.0/16\",scope=\"dynamic\"}}"),
            1.0,
        ),
        (
            format!("{given}_errors_total{{cidr=\"10.96.0.0/16\",scope=\"static\"}}"),
            1.0,
        ),
        (
            "kube_apiserver_nodeport_allocator_allocation_total{scope=\"dynamic\"}".to_owned(),
            2.0,
        ),
        ("serviceaccount_valid_tokens_total".to_owned(), 1.0),
        ("serviceaccount_stale_tokens_total".to_owned(), 0.0),
        (
            format!("apiserver_watch_list_duration_seconds_count{{{list}}}"),
            1.0,
        ),
    ] {
        assert_eq!(figure(&page, &sample), wanted, "{sample}");
    }
    for sample in [
        "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"}",
        "apiserver_request_filter_duration_seconds_count{filter=\"authentication\"}",
        "apiserver_selfrequest_total{group=\"\",resource=\"namespaces\",subresource=\"\",verb=\"POST\"}",
        "apiserver_watch_cache_initialization_duration_seconds_count{group=\"\",resource=\"pods\"}",
        "registered_metrics_total{deprecated_version=\"\",stability_level=\"STABLE\"}",
    ] {
        assert!(figure(&page, sample) > 0.0, "{sample}");
    }
}

#[tokio::test]
async fn checks_are_told_one_by_one_and_counted() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    for path in [
        "/livez",
        "/livez/poststarthook/rbac/bootstrap-roles",
        "/readyz/shutdown",
        "/healthz/etcd",
    ] {
        assert_eq!(admin.get(path).await.text, "ok", "{path}");
    }
    let told = admin
        .get("/livez?verbose&exclude=etcd&exclude=none")
        .await
        .text;
    for line in [
        "[+]ping ok",
        "[+]etcd excluded: ok",
        "warn: some health checks cannot be excluded: no matches for \"none\"",
        "livez check passed",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    let figures = admin.get("/metrics/slis").await.text;
    for line in [
        "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 2",
    ] {
        assert!(
            figures.lines().any(|told| told == line),
            "{line} in {figures}"
        );
    }
    cluster.server.shut_down();
    let ending = admin.get("/readyz").await;
    assert_eq!(ending.code, 500);
    assert!(
        ending
            .text
            .contains("[-]shutdown failed: reason withheld\n")
    );
    assert_eq!(admin.get("/livez").await.code, 200);
}
