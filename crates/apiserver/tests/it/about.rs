//! What the server says of itself: `/statusz`, `/flagz`, `/metrics/slis` and the checks of its health.

use expect_test::expect;
use http::Method;

use access::User;

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
