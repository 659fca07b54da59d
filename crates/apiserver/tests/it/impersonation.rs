//! Acting as somebody else by constrained rights (KEP-5284).

use access::User;
use access::user::EXTRA_NODE_NAME;
use http::Method;
use serde_json::{Value, json};

use crate::audit;
use crate::harness::{Answer, Client, Cluster};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Gives a user rights by a role of his own.
async fn grant(cluster: &Cluster, name: &str, user: &str, rules: Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": name}, "rules": rules});
    let path = format!("{rbac}/clusterroles");
    cluster.admin.post(&path, role).await.ok();
    let subject = match access::user::split_service_account(user) {
        Some((namespace, name)) => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        None => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}),
    };
    let binding = json!({
        "metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
    });
    let path = format!("{rbac}/clusterrolebindings");
    cluster.admin.post(&path, binding).await.ok();
}

async fn as_other(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(Method::GET, path, headers, "").await
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

#[tokio::test]
async fn a_user_is_acted_for_where_both_rights_are_held() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("audit.log");
    let cluster = Cluster::with(|config| config.audit = audit::options(&log)).await;
    let joe = cluster.as_user(User::new("joe", &[]));
    let jane = [("impersonate-user", "jane")];
    let refused = as_other(&joe, PODS, &jane).await.refused(403);
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"joe\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    let on = [rule(&["impersonate-on:user-info:list"], "", &["pods"])];
    grant(&cluster, "on", "joe", json!(on)).await;
    let refused = as_other(&joe, PODS, &jane).await.refused(403);
    assert_eq!(
        refused.message(),
        "users.authentication.k8s.io \"jane\" is forbidden: User \"joe\" cannot impersonate:user-info resource \"users\" \
         in API group \"authentication.k8s.io\" at the cluster scope"
    );
    let group = "authentication.k8s.io";
    let who = [rule(
        &["impersonate:user-info"],
        group,
        &["users", "groups"],
    )];
    grant(&cluster, "who", "joe", json!(who)).await;
    // He may act as jane, who may not list pods herself.
    let refused = as_other(&joe, PODS, &jane).await.refused(403);
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    grant(
        &cluster,
        "jane",
        "jane",
        json!([rule(&["*"], "", &["pods"])]),
    )
    .await;
    let headers = [jane[0], ("audit-id", "constrained")];
    assert_eq!(as_other(&joe, PODS, &headers).await.code, 200);
    // What she may do is not what he may do as her; and the first complaint is of the way that he went last.
    let refused = joe
        .send(Method::DELETE, &format!("{PODS}/p"), &jane, "")
        .await;
    assert_eq!(
        refused.refused(403).message(),
        "pods \"p\" is forbidden: User \"joe\" cannot impersonate-on:user-info:delete resource \"pods\" in API group \"\" \
         in the namespace \"default\""
    );
    let masters = [jane[0], ("impersonate-group", "system:masters")];
    let refused = as_other(&joe, PODS, &masters).await.refused(403);
    assert!(
        refused
            .message()
            .ends_with(": impersonating the system:masters group is not allowed"),
        "{}",
        refused.message()
    );
    let nobody = [("impersonate-group", "a"), ("impersonate-extra-Team", "b")];
    assert_eq!(
        as_other(&joe, PODS, &nobody).await.refused(400).message(),
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"a\"}, \
         Extra:map[string][]string{\"team\":[]string{\"b\"}}} without impersonating a user name"
    );
    let events = audit::events(&log, "constrained");
    let event = events.last().expect("an event");
    assert_eq!(event["impersonatedUser"]["username"], "jane");
    assert_eq!(
        event["authenticationMetadata"],
        json!({"impersonationConstraint": "impersonate:user-info"})
    );
    let page = cluster.admin.get("/metrics").await.text;
    let attempts =
        "apiserver_impersonation_attempts_total{decision=\"allowed\",mode=\"user-info\"} 2";
    assert!(page.contains(attempts), "{page}");
}

#[tokio::test]
async fn an_agent_acts_as_its_own_node_only() {
    let cluster = Cluster::start().await;
    let mut agent = User::service_account("kube-system", "agent", "");
    let node = vec!["n1".to_owned()];
    agent.extra.insert(EXTRA_NODE_NAME.to_owned(), node);
    let name = agent.name.clone();
    let agent = cluster.as_user(agent);
    let rules = [
        rule(&["impersonate-on:associated-node:get"], "", &["nodes"]),
        rule(
            &["impersonate:associated-node"],
            "authentication.k8s.io",
            &["nodes"],
        ),
    ];
    grant(&cluster, "agent", &name, json!(rules)).await;
    let path = "/api/v1/nodes/n1";
    let own = [("impersonate-user", "system:node:n1")];
    // The node authorizer lets it read its own Node, which is not there.
    as_other(&agent, path, &own).await.refused(404);
    let other = [("impersonate-user", "system:node:n2")];
    assert_eq!(
        as_other(&agent, path, &other).await.refused(403).message(),
        "nodes \"n1\" is forbidden: User \"system:serviceaccount:kube-system:agent\" cannot \
         impersonate-on:arbitrary-node:get resource \"nodes\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn the_old_right_is_enough() {
    let cluster = Cluster::start().await;
    let joe = cluster.as_user(User::new("joe", &[]));
    grant(
        &cluster,
        "old",
        "joe",
        json!([rule(&["impersonate"], "", &["users"])]),
    )
    .await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let jane = [("impersonate-user", "jane")];
    let who = joe.send(Method::POST, path, &jane, "{}").await.ok();
    assert_eq!(who["status"]["userInfo"]["username"], "jane");
    // From now on this way is the first, and its complaint the one that he hears.
    let other = [("impersonate-user", "system:serviceaccount:a:b")];
    let refused = joe.send(Method::POST, path, &other, "{}").await;
    assert_eq!(
        refused.refused(403).message(),
        "serviceaccounts \"b\" is forbidden: User \"joe\" cannot impersonate resource \"serviceaccounts\" in API group \"\" \
         in the namespace \"a\""
    );
}
