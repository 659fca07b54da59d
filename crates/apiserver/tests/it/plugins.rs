//! Admission plug-ins that are more than a function, and policies that stand in files.

use std::time::Duration;

use access::admission::manifests::Source;
use access::admission::{event_rate_limit, image_policy};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::webhooks::Hook;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

#[tokio::test]
async fn events_are_limited() {
    let cluster = Cluster::with(|config| {
        config.policy.admission.event_limits = event_rate_limit::read(&json!({
            "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
            "limits": [{"type": "User", "qps": 1, "burst": 2}]}))
        .expect("limits");
    })
    .await;
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"namespace": "default", "name": "p"}});
    let send = |name: String, query: &'static str| {
        let path = format!("/api/v1/namespaces/default/events{query}");
        let (admin, body) = (cluster.admin.clone(), event(&name));
        async move { admin.post(&path, body).await }
    };
    send("a".to_owned(), "").await.ok();
    send("b".to_owned(), "").await.ok();
    // All at once: on a slow machine some find room that has come back meanwhile, but never all of them.
    let flood = futures::future::join_all((0..40).map(|i| send(format!("c{i}"), ""))).await;
    let mut refused = flood.into_iter().filter(|answer| answer.code != 201);
    let refused = refused.next().expect("somebody is refused").refused(429);
    // What is not stored does not count.
    send("d".to_owned(), "?dryRun=All").await.ok();
    assert_eq!(
        (refused.message(), &refused.body["reason"]),
        (
            "Too many requests: limit reached on type User for key admin",
            &json!("TooManyRequests")
        )
    );
}

#[tokio::test]
async fn somebody_else_decides_about_images() {
    let hook = Hook::start(|_, asked| {
        let bad = asked["spec"].to_string().contains("bad");
        json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "status":
            if bad { json!({"allowed": false, "reason": "not signed"}) } else { json!({"allowed": true}) }})
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let kubeconfig = dir.path().join("kubeconfig");
    let text = json!({
        "clusters": [{"name": "images", "cluster": {"server": format!("{}/images", hook.url), "certificate-authority-data": hook.bundle}}],
        "contexts": [{"name": "c", "context": {"cluster": "images", "user": ""}}], "current-context": "c",
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("written");
    let with = |default_allow: bool, path: std::path::PathBuf| {
        Cluster::with(move |config| {
            let admission = &mut config.policy.admission;
            admission.without.insert("ServiceAccount".to_owned());
            admission.image_policy = Some(image_policy::Configuration {
                kubeconfig: path,
                allow_ttl: Duration::from_secs(60),
                deny_ttl: Duration::from_secs(60),
                retry_backoff: Duration::from_millis(1),
                default_allow,
            });
        })
    };
    let cluster = with(false, kubeconfig.clone()).await;
    cluster.admin.post(PODS, pod("a", "good")).await.ok();
    let refused = cluster.admin.post(PODS, pod("b", "bad")).await.refused(403);
    assert_eq!(
        refused.message(),
        "pods \"b\" is forbidden: image policy webhook backend denied one or more images: not signed"
    );
    let asked = hook.take();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[0].1["spec"],
        json!({"containers": [{"image": "good"}], "namespace": "default"})
    );
    // The same question is not asked again.
    cluster.admin.post(PODS, pod("c", "good")).await.ok();
    assert_eq!(hook.take().len(), 0);
    // Nobody answers.
    let nobody = text.to_string().replace(&hook.url, "https://127.0.0.1:1");
    std::fs::write(&kubeconfig, nobody).expect("written");
    let cluster = with(false, kubeconfig.clone()).await;
    cluster
        .admin
        .post(PODS, pod("a", "good"))
        .await
        .refused(403);
    let cluster = with(true, kubeconfig).await;
    cluster.admin.post(PODS, pod("a", "good")).await.ok();
}

#[tokio::test]
async fn namespaces_are_made_when_something_is_to_be_in_them() {
    let cluster = Cluster::with(|config| {
        config
            .policy
            .admission
            .without
            .remove("NamespaceAutoProvision");
    })
    .await;
    let path = "/api/v1/namespaces/fresh/configmaps";
    let map = json!({"metadata": {"name": "m"}});
    cluster
        .admin
        .post(&format!("{path}?dryRun=All"), map.clone())
        .await
        .refused(404);
    cluster.admin.post(path, map).await.ok();
    let made = cluster.admin.get("/api/v1/namespaces/fresh").await.ok();
    assert_eq!(made["status"]["phase"], "Active");
}

fn no_secrets(message: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: rule.static.k8s.io}}
spec:
  matchConstraints:
    resourceRules:
    - {{apiGroups: ["", admissionregistration.k8s.io], apiVersions: ["*"], operations: [CREATE, DELETE], resources: [configmaps, validatingadmissionpolicies]}}
  validations:
  - {{expression: "!request.name.startsWith('bad')", message: {message}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: rule.static.k8s.io}}
spec: {{policyName: rule.static.k8s.io, validationActions: [Deny]}}
"#
    )
}

async fn post_map(cluster: &Cluster, name: &str) -> Answer {
    let path = "/api/v1/namespaces/default/configmaps?dryRun=All";
    let map = json!({"metadata": {"name": name}});
    cluster.admin.post(path, map).await
}

#[tokio::test]
async fn policies_stand_in_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("rule.yaml");
    std::fs::write(&file, no_secrets("one")).expect("written");
    let path = dir.path().to_owned();
    let cluster = Cluster::with(move |config| {
        let manifests = &mut config.policy.admission.manifests;
        manifests.insert(Source::ValidatingPolicies, path);
    })
    .await;
    post_map(&cluster, "good").await.ok();
    let refused = post_map(&cluster, "bad").await.refused(422);
    assert!(
        refused.message().ends_with("denied request: one"),
        "{refused:?}"
    );
    // Nobody sees them, and nobody takes their names; they hold for policies too.
    let group = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let all = cluster.admin.get(group).await.ok();
    assert_eq!(all["items"], json!([]));
    let policy = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "validations": [{"expression": "true"}]}})
    };
    cluster
        .admin
        .post(group, policy("other.static.k8s.io"))
        .await
        .refused(422);
    let refused = cluster.admin.post(group, policy("bad")).await.refused(422);
    assert!(
        refused.message().ends_with("denied request: one"),
        "{refused:?}"
    );
    cluster.admin.post(group, policy("fine")).await.ok();
    // What cannot be used changes nothing; what can is taken at once.
    let replace = |text: &str| {
        let other = dir.path().join("rule.new");
        std::fs::write(&other, text).expect("written");
        std::fs::rename(other, &file).expect("renamed");
    };
    replace("kind: Nothing");
    replace(&no_secrets("two"));
    let told = async {
        loop {
            let refused = post_map(&cluster, "bad").await.refused(422);
            if refused.message().ends_with("denied request: two") {
                return;
            }
            assert!(
                refused.message().ends_with("denied request: one"),
                "{refused:?}"
            );
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    told.expect("the file is read again");
    let metrics = cluster.admin.get("/metrics").await.text;
    let name = "apiserver_manifest_admission_config_controller_automatic_reloads_total";
    let mut lines = metrics.lines().filter(|line| line.starts_with(name));
    let wanted = "plugin=\"ValidatingAdmissionPolicy\",status=\"success\"} 2";
    assert!(lines.any(|line| line.ends_with(wanted)), "{metrics}");
}
