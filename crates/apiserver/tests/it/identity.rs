//! Who asks, and what he may do.

use access::User;
use http::Method;
use serde_json::json;

use crate::harness::Cluster;

#[tokio::test]
async fn nobody_may_read_health_and_version_only() {
    let cluster = Cluster::start().await;
    let nobody = cluster.as_user(User::anonymous());
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(nobody.get(path).await.code, 200, "{path}");
    }
    let refused = nobody.get("/api/v1/namespaces").await.refused(403);
    assert_eq!(
        refused.message(),
        "namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" at the \
         cluster scope"
    );
    let verbose = cluster.admin.get("/readyz?verbose").await;
    assert!(
        verbose.text.starts_with("[+]ping ok\n") && verbose.text.ends_with("readyz check passed\n")
    );
}

#[tokio::test]
async fn a_role_counts_from_the_moment_it_is_granted() {
    let cluster = Cluster::start().await;
    let user = cluster.as_user(User::new("jane", &[]));
    let path = "/api/v1/namespaces/default/configmaps";
    user.get(path).await.refused(403);
    let binding = json!({
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    // Nobody grants what he does not hold.
    user.post(bindings, binding.clone()).await.refused(403);
    // `view` is an aggregated role: here it has the rules that a controller would gather.
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/view";
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]});
    cluster.admin.patch(role, "merge", rules).await.ok();
    cluster.admin.post(bindings, binding).await.ok();
    assert_eq!(user.get(path).await.code, 200);
    cluster.admin.delete(&format!("{bindings}/b")).await.ok();
    user.get(path).await.refused(403);
}

#[tokio::test]
async fn acting_as_somebody_else_needs_the_right_to() {
    let cluster = Cluster::start().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [("impersonate-user", "jane"), ("impersonate-group", "devs")];
    let who = cluster
        .admin
        .send(Method::POST, path, &headers, "{}")
        .await
        .ok();
    assert_eq!(who["status"]["userInfo"]["username"], "jane");
    assert_eq!(
        who["status"]["userInfo"]["groups"],
        json!(["devs", "system:authenticated"])
    );
    let joe = cluster.as_user(User::new("joe", &[]));
    joe.send(Method::POST, path, &headers, "{}")
        .await
        .refused(403);
}

#[tokio::test]
async fn tokens_are_issued_reviewed_and_die_with_their_account() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin
        .post(accounts, json!({"metadata": {"name": "bot"}}))
        .await
        .ok();
    let issued = admin
        .post(&format!("{accounts}/bot/token"), json!({"spec": {}}))
        .await
        .ok();
    let token = issued["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let review = || json!({"spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = admin.post(path, review()).await.ok();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(
        answer["status"]["user"]["username"],
        "system:serviceaccount:default:bot"
    );
    admin.delete(&format!("{accounts}/bot")).await.ok();
    let answer = admin.post(path, review()).await.ok();
    assert_ne!(answer["status"]["authenticated"], true);
}

#[tokio::test]
async fn reviews_answer_for_others() {
    let cluster = Cluster::start().await;
    let ask = |user: &str| {
        json!({"spec": {
            "user": user, "groups": ["system:masters"],
            "resourceAttributes": {"verb": "delete", "resource": "nodes", "name": "n"},
        }})
    };
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(
        cluster.admin.post(path, ask("x")).await.ok()["status"]["allowed"],
        true
    );
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    cluster
        .admin
        .send(Method::POST, path, &table, ask("x").to_string())
        .await
        .refused(406);
    let own = json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let jane = cluster.as_user(User::new("jane", &[]));
    assert_eq!(jane.post(path, own).await.ok()["status"]["allowed"], false);
}
