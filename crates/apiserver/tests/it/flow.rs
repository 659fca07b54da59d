//! Priority and fairness at the door, deadlines, and the end of a server.

use std::time::Duration;

use access::User;
use apiserver::Limits;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A level without queues that has few seats, for the requests of jane alone.
async fn narrow(cluster: &Cluster) -> Client {
    let admin = &cluster.admin;
    let level = json!({"metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
    }}});
    let path = format!("{FLOW}/prioritylevelconfigurations");
    admin.post(&path, level).await.ok();
    let all = json!(["*"]);
    let schema = json!({"metadata": {"name": "jane"}, "spec": {
        "matchingPrecedence": 100, "priorityLevelConfiguration": {"name": "narrow"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "resourceRules": [{
                "verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true,
            }],
        }],
    }});
    admin
        .post(&format!("{FLOW}/flowschemas"), schema)
        .await
        .ok();
    let role = json!({"metadata": {"name": "jane"}, "subjects": [{
        "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io",
    }], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    admin.post(path, role).await.ok();
    let jane = cluster.as_user(User::new("jane", &["system:authenticated"]));
    let wanted = uid(cluster, "flowschemas/jane").await;
    // The schema is at work a moment after the write is answered.
    while jane.get(MAPS).await.headers["x-kubernetes-pf-flowschema-uid"] != wanted {
        tokio::task::yield_now().await;
    }
    jane
}

async fn uid(cluster: &Cluster, path: &str) -> String {
    let object = cluster.admin.get(&format!("{FLOW}/{path}")).await.ok();
    let uid = object["metadata"]["uid"].as_str();
    uid.expect("a UID").to_owned()
}

#[tokio::test]
async fn who_finds_no_seat_is_asked_to_come_back() {
    let cluster = Cluster::start().await;
    let jane = narrow(&cluster).await;
    let level = uid(&cluster, "prioritylevelconfigurations/narrow").await;
    for name in ["a", "b"] {
        let map = json!({"metadata": {"name": name}, "data": {"a": "b".repeat(100_000)}});
        cluster.admin.post(MAPS, map).await.ok();
    }
    // A list holds its seats until it has been sent.
    let mut held = Vec::new();
    let refused = loop {
        let answer = jane.open(Method::GET, MAPS, &[], "").await;
        match answer.status().as_u16() {
            200 => held.push(answer),
            _ => break answer,
        }
        assert!(held.len() < 10, "lists hold no seats");
    };
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        refused.headers()["x-kubernetes-pf-prioritylevel-uid"],
        *level
    );
    let refused = jane.get(MAPS).await;
    assert_eq!(refused.text, "Too many requests, please try again later.\n");
    // Others have seats of their own, and administrators need none.
    cluster.admin.get(MAPS).await.ok();
    let joe = cluster.as_user(User::new("joe", &["system:authenticated"]));
    joe.get(MAPS).await.refused(403);
    let metrics = cluster.admin.get("/metrics").await.text;
    let rejected = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"jane\",priority_level=\"narrow\",reason=\"concurrency-limit\"} 2";
    assert!(metrics.contains(rejected), "{metrics}");
    let table = (cluster.admin)
        .get("/debug/api_priority_and_fairness/dump_priority_levels")
        .await
        .text;
    let row = table.lines().find(|line| line.starts_with("narrow,"));
    let cells: Vec<&str> = row.expect("a row").split(',').map(str::trim).collect();
    assert_eq!((cells[2], cells[7]), ("false", "2"), "{table}");
    drop(held);
    jane.get(MAPS).await.ok();
}

#[tokio::test]
async fn whoever_is_served_is_told_of() {
    let cluster = Cluster::start().await;
    let path = "/debug/api_priority_and_fairness/dump_requests";
    let table = cluster.admin.get(path).await.text;
    let cells = |line: &str| -> Vec<String> {
        line.split(',').map(|cell| cell.trim().to_owned()).collect()
    };
    let own = table.lines().nth(1).map(cells).expect("this request");
    // The flow schema may still be to come.
    assert_eq!(own[0], "exempt");
    assert_eq!(own[2..5], ["-1", "-1", ""]);
    assert_eq!((own[6..9].join(" "), own.len()), ("1 0 0s".to_owned(), 10));
    let detailed = format!("{path}?includeRequestDetails=1");
    let table = cluster.admin.get(&detailed).await.text;
    let own = table.lines().nth(1).map(cells).expect("this request");
    assert_eq!(own[10..], ["admin", "get", path, "", "", "", "", ""]);
    // A request that is over is not.
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[tokio::test]
async fn without_priority_and_fairness_there_are_two_limits() {
    let cluster = Cluster::with(|config| {
        config.limits = Limits {
            priority_and_fairness: false,
            reading: 0,
            writing: 1,
            ..Limits::default()
        };
    });
    let cluster = cluster.await;
    let jane = cluster.as_user(User::new("jane", &[]));
    let refused = jane.get(MAPS).await;
    assert_eq!(
        (refused.code, refused.headers.get("retry-after").is_some()),
        (429, true)
    );
    jane.post(MAPS, json!({})).await.refused(403);
    let paths = "/debug/api_priority_and_fairness/dump_queues";
    cluster.admin.get(paths).await.refused(404);
}

#[tokio::test]
async fn a_client_may_want_its_answer_sooner() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let refused = admin
        .get(&format!("{MAPS}?timeout=soon"))
        .await
        .refused(400);
    assert_eq!(
        refused.message(),
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
    admin.get(&format!("{MAPS}?timeout=30s")).await.ok();
}

/// The server says that it is not ready before anything ends; then watches end.
#[tokio::test]
async fn a_server_that_ends_says_so_first() {
    let cluster = Cluster::with(|config| {
        config.limits.shutdown_delay = Duration::from_millis(300);
    });
    let cluster = cluster.await;
    let admin = &cluster.admin;
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion=0"))
        .await;
    cluster.server.shut_down();
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.code, 500);
    assert!(ready.text.contains("[-]shutdown failed"), "{}", ready.text);
    assert_eq!(admin.get("/livez").await.code, 200);
    let map = json!({"metadata": {"name": "last"}});
    admin.post(MAPS, map).await.ok();
    let mut seen = Vec::<Value>::new();
    while let Some(event) = events.next().await {
        seen.push(event);
    }
    let name = |e: &Value| e["object"]["metadata"]["name"].as_str().map(str::to_owned);
    let last = seen.iter().filter_map(name).next_back();
    assert_eq!(last.as_deref(), Some("last"));
}
