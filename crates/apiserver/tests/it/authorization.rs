//! Authorizers elsewhere, and chains of them that a file describes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access::User;
use access::authorization::Configuration;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::harness::Cluster;

/// Somebody elsewhere who knows who may do what.
struct Far {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    dir: TempDir,
}

async fn far(judge: fn(&Value) -> Value) -> Far {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                count.fetch_add(1, Ordering::Relaxed);
                async move {
                    let body = request
                        .into_body()
                        .collect()
                        .await
                        .expect("a body")
                        .to_bytes();
                    let mut review: Value = serde_json::from_slice(&body).expect("a review");
                    review["status"] = judge(&review["spec"]);
                    let body = Full::new(Bytes::from(review.to_string()));
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    Far {
        address,
        asked,
        dir,
    }
}

impl Far {
    fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "far",
            "contexts": [{"name": "far", "context": {"cluster": "far", "user": "us"}}],
            "clusters": [{"name": "far", "cluster": {"server": format!("http://{}/ask", self.address)}}],
            "users": [{"name": "us", "user": {"token": "known"}}],
        });
        std::fs::write(&path, text.to_string()).expect("written");
        path
    }

    fn chain(&self, policy: &str, conditions: &[&str]) -> String {
        let conditions: Vec<BTreeMap<_, _>> = conditions
            .iter()
            .map(|text| BTreeMap::from([("expression", *text)]))
            .collect();
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [
                {"type": "Webhook", "name": "far", "webhook": {
                    "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": policy,
                    "matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": conditions,
                    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": self.kubeconfig()},
                }},
                {"type": "RBAC", "name": "rbac"},
            ],
        })
        .to_string()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn cluster(text: &str) -> Cluster {
    let authorization = Configuration::parse(text).expect("a configuration");
    Cluster::with(|config| config.policy.authorization = authorization).await
}

/// Jane may read; nobody may touch secrets; and rights over roles are Mallory's.
fn judge(spec: &Value) -> Value {
    let asked = &spec["resourceAttributes"];
    match (
        spec["user"].as_str(),
        asked["verb"].as_str(),
        asked["resource"].as_str(),
    ) {
        (_, _, Some("secrets")) => json!({"denied": true, "reason": "hands off"}),
        (Some("jane"), Some("list"), _) => json!({"allowed": true}),
        (Some("mallory"), Some("create" | "escalate"), Some("roles")) => json!({"allowed": true}),
        _ => json!({"allowed": false}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorizer_elsewhere_is_asked_before_roles_are() {
    let far = far(judge).await;
    let cluster = cluster(&far.chain("NoOpinion", &["request.user != 'joe'"])).await;
    let jane = cluster.as_user(User::new("jane", &[]));
    let path = "/api/v1/namespaces/default/configmaps";
    jane.get(path).await.ok();
    let asked = far.asked();
    jane.get(path).await.ok();
    assert_eq!(far.asked(), asked, "the answer is kept");
    let refused = jane.get("/api/v1/secrets").await.refused(403);
    assert!(
        refused.message().ends_with(": hands off"),
        "{}",
        refused.text
    );
    let asked = far.asked();
    cluster
        .as_user(User::new("joe", &[]))
        .get(path)
        .await
        .refused(403);
    assert_eq!(
        far.asked(),
        asked,
        "the condition holds joe's questions back"
    );
    // Masters are let in before anybody is asked.
    cluster.admin.get("/api/v1/secrets").await.ok();
    assert_eq!(far.asked(), asked);
    let review = json!({"spec": {"namespace": "default"}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules = jane.post(reviews, review).await.ok();
    assert_eq!(rules["status"]["incomplete"], true);
    assert_eq!(
        rules["status"]["evaluationError"],
        "webhook authorizer does not support user rule resolution"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_admission_asks_for_are_asked_elsewhere_too() {
    let far = far(judge).await;
    let cluster = cluster(&far.chain("NoOpinion", &[])).await;
    let role = json!({
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    cluster
        .as_user(User::new("mallory", &[]))
        .post(path, role.clone())
        .await
        .ok();
    cluster
        .as_user(User::new("jane", &[]))
        .post(path, role)
        .await
        .refused(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_what_the_policy_says() {
    let far = far(judge).await;
    let gone = |policy| {
        let chain = far.chain(policy, &[]);
        let kubeconfig = far.kubeconfig();
        let known = std::fs::read_to_string(&kubeconfig).expect("readable");
        let closed = known.replace(&far.address.to_string(), "127.0.0.1:1");
        std::fs::write(kubeconfig, closed).expect("written");
        chain
    };
    let path = "/api/v1/namespaces/default/configmaps";
    let open = cluster(&gone("NoOpinion")).await;
    let jane = open.as_user(User::new("jane", &[]));
    let refused = jane.get(path).await.refused(500);
    assert!(
        refused.message().contains("connection refused"),
        "{}",
        refused.text
    );
    let binding = json!({
        "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    open.admin.post(bindings, binding.clone()).await.ok();
    jane.get(path).await.ok();
    let shut = cluster(&gone("Deny")).await;
    shut.admin.post(bindings, binding).await.ok();
    shut.as_user(User::new("jane", &[]))
        .get(path)
        .await
        .refused(500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_follows_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("authorization.yaml");
    let chain = |kind: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n\
             authorizers: [{{type: {kind}, name: only}}]\n"
        )
    };
    std::fs::write(&path, chain("AlwaysDeny")).expect("written");
    let cluster = Cluster::with(|config| {
        let text = chain("AlwaysDeny");
        config.policy.authorization = Configuration::parse(&text).expect("a configuration");
        config.policy.authorization_file = Some((path.clone(), text));
    })
    .await;
    let jane = cluster.as_user(User::new("jane", &[]));
    let refused = jane.get("/api/v1/pods").await.refused(403);
    assert!(refused.message().ends_with(": Everything is forbidden."));
    std::fs::write(&path, chain("AlwaysAllow")).expect("written");
    let allowed = async {
        while jane.get("/api/v1/pods").await.code != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), allowed)
        .await
        .expect("reloaded");
    let metrics = cluster.admin.get("/metrics").await.text;
    let name = "apiserver_authorization_config_controller_automatic_reloads_total";
    let mut lines = metrics.lines().filter(|line| line.starts_with(name));
    assert!(lines.any(|line| line.ends_with("status=\"success\"} 1")));
    // What cannot be used changes nothing.
    std::fs::write(&path, "authorizers: []").expect("written");
    jane.get("/api/v1/pods").await.ok();
}
