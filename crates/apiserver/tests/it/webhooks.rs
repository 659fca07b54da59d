//! Admission webhooks: a server of the test's own is asked about writes.

mod asked;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

type Behaviour = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// A webhook: what it was asked, and where it is.
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) bundle: String,
    asked: Asked,
}

/// Path and body of each question; the body has what was shown under the key `shown`, if anything was.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

impl Hook {
    /// A server that answers as the function says: given path and body, it gives the body of the answer. At `/never` it is silent.
    pub(crate) async fn start(
        behaviour: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(key))
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, behaviour): (_, Behaviour) = (asked.clone(), Arc::new(behaviour));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let (log, behaviour) = (log.clone(), behaviour.clone());
                tokio::spawn(async move {
                    let service =
                        service_fn(move |request| answer(request, log.clone(), behaviour.clone()));
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The client goes away at some time.
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            url,
            bundle: STANDARD.encode(authority),
            asked,
        }
    }

    /// The reviews that were asked since the last look.
    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// A webhook of a configuration that asks this server at a path about new and changed config maps.
    fn spec(&self, path: &str, more: Value) -> Value {
        let mut spec = json!({
            "name": format!("{}.example.com", path.trim_matches('/').replace('/', ".")),
            "clientConfig": {"url": format!("{}{path}", self.url), "caBundle": self.bundle},
            "rules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    log: Asked,
    behaviour: Behaviour,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let shown = request.headers().get("authorization").cloned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(shown) = shown {
        body["shown"] = shown.to_str().expect("text").into();
    }
    log.lock().push((path.clone(), body.clone()));
    if path.starts_with("/never") {
        std::future::pending::<()>().await;
    }
    let answer = match behaviour(&path, &body) {
        // Not everything that is asked for is JSON.
        Value::String(text) => text,
        answer => answer.to_string(),
    };
    Ok(Response::new(Full::new(answer.into())))
}

/// An answer to a review.
fn reviewed(asked: &Value, response: Value) -> Value {
    let mut response = response;
    response["uid"] = asked["request"]["uid"].clone();
    json!({"apiVersion": asked["apiVersion"], "kind": "AdmissionReview", "response": response})
}

fn patch(operations: Value) -> Value {
    let patch = STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// What most tests need: the path says what is answered.
fn usual(path: &str, asked: &Value) -> Value {
    let data = &asked["request"]["object"]["data"];
    let response = match path {
        "/deny" => {
            json!({"allowed": false, "status": {"message": "I said no", "reason": "Forbidden", "code": 403}})
        }
        "/warn" => json!({"allowed": true, "warnings": ["mind the gap"]}),
        "/first/adds" => match data["second"].is_null() {
            true => patch(json!([{"op": "add", "path": "/data", "value": {"first": "1"}}])),
            false => patch(json!([{"op": "add", "path": "/data/again", "value": "1"}])),
        },
        "/second/adds" => patch(json!([{"op": "add", "path": "/data/second", "value": "2"}])),
        "/wrong/uid" => {
            return json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": "other", "allowed": true},
            });
        }
        _ => json!({"allowed": true}),
    };
    reviewed(asked, response)
}

async fn configure(cluster: &Cluster, kind: &str, name: &str, hooks: Value) {
    let plural = format!("{}webhookconfigurations", kind.to_lowercase());
    let configuration = json!({"metadata": {"name": name}, "webhooks": hooks});
    cluster
        .admin
        .post(&format!("{GROUP}/{plural}"), configuration)
        .await
        .ok();
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn a_webhook_may_refuse() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    configure(
        &cluster,
        "Validating",
        "a",
        json!([hook.spec("/deny", json!({}))]),
    )
    .await;
    // It takes effect with the answer.
    let refused = cluster.admin.post(MAPS, map("a")).await.refused(403);
    let why = r#"admission webhook "deny.example.com" denied the request: I said no"#;
    assert_eq!(
        (refused.message(), &refused.body["reason"]),
        (why, &json!("Forbidden"))
    );
    let asked = hook.take();
    let request = &asked[0].1["request"];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["object"]["kind"], "ConfigMap");
    assert_eq!(request["oldObject"], Value::Null);
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert_eq!(request["namespace"], "default");
    // Other resources are none of its business, and neither is its own configuration.
    cluster
        .admin
        .post("/api/v1/namespaces/default/secrets", map("a"))
        .await
        .ok();
    let path = format!("{GROUP}/validatingwebhookconfigurations/a");
    cluster.admin.delete(&path).await.ok();
    cluster.admin.post(MAPS, map("a")).await.ok();
    assert!(hook.take().is_empty());
}

/// Security lesson 2021-25735.
#[tokio::test]
async fn cve_2021_25735_the_old_object_is_the_stored_one() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let mut first = map("a");
    first["data"] = json!({"k": "stored"});
    cluster.admin.post(MAPS, first).await.ok();
    configure(
        &cluster,
        "Validating",
        "a",
        json!([hook.spec("/ok", json!({}))]),
    )
    .await;
    let one = format!("{MAPS}/a");
    let mut second = map("a");
    second["data"] = json!({"k": "new"});
    cluster.admin.put(&one, second).await.ok();
    cluster
        .admin
        .patch(&one, "merge", json!({"data": {"k": "patched"}}))
        .await
        .ok();
    cluster.admin.delete(&one).await.ok();
    let told: Vec<(Value, Value, Value)> = hook
        .take()
        .into_iter()
        .map(|(_, review)| {
            let request = &review["request"];
            let data = |key: &str| request[key]["data"]["k"].clone();
            (
                request["operation"].clone(),
                data("oldObject"),
                data("object"),
            )
        })
        .collect();
    let wanted = [
        (json!("UPDATE"), json!("stored"), json!("new")),
        (json!("UPDATE"), json!("new"), json!("patched")),
        (json!("DELETE"), json!("patched"), Value::Null),
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn webhooks_change_objects_in_order_and_look_again() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    configure(
        &cluster,
        "Mutating",
        "b",
        json!([hook.spec("/second/adds", json!({}))]),
    )
    .await;
    configure(
        &cluster,
        "Mutating",
        "a",
        json!([hook.spec("/first/adds", again)]),
    )
    .await;
    let made = cluster.admin.post(MAPS, map("a")).await.ok();
    assert_eq!(
        made["data"],
        json!({"first": "1", "second": "2", "again": "1"})
    );
    let paths: Vec<String> = hook.take().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/first/adds", "/second/adds", "/first/adds"]);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_stops_the_write_unless_it_need_not_be() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let short = json!({"timeoutSeconds": 1});
    configure(
        &cluster,
        "Validating",
        "a",
        json!([hook.spec("/never/mind", short)]),
    )
    .await;
    let refused = cluster.admin.post(MAPS, map("a")).await.refused(500);
    let why = format!(
        r#"Internal error occurred: failed calling webhook "never.mind.example.com": failed to call webhook: Post "{}/never/mind?timeout=1s": context deadline exceeded"#,
        hook.url
    );
    assert_eq!(refused.message(), why);
    let ignored = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    let path = format!("{GROUP}/validatingwebhookconfigurations/a");
    let patch = json!({"webhooks": [hook.spec("/never/mind", ignored)]});
    cluster.admin.patch(&path, "merge", patch).await.ok();
    cluster.admin.post(MAPS, map("a")).await.ok();
    let patch = json!({"webhooks": [hook.spec("/wrong/uid", json!({}))]});
    cluster.admin.patch(&path, "merge", patch).await.ok();
    let refused = cluster.admin.post(MAPS, map("b")).await.refused(500);
    assert!(
        refused
            .message()
            .contains("received invalid webhook response: expected response.uid="),
        "{}",
        refused.message()
    );
    let gone = json!({"clientConfig": {"service": {"namespace": "default", "name": "gone", "path": "/x"}}});
    let patch = json!({"webhooks": [hook.spec("/gone/now", gone)]});
    cluster.admin.patch(&path, "merge", patch).await.ok();
    let refused = cluster.admin.post(MAPS, map("b")).await.refused(500);
    let why = r#"Internal error occurred: failed calling webhook "gone.now.example.com": failed to call webhook: Post "https://gone.default.svc:443/x?timeout=10s": service "gone" not found"#;
    assert_eq!(refused.message(), why);
}

#[tokio::test]
async fn a_dry_run_is_refused_by_who_has_side_effects_and_told_to_others() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    configure(
        &cluster,
        "Validating",
        "a",
        json!([hook.spec("/warn", json!({}))]),
    )
    .await;
    let path = format!("{MAPS}?dryRun=All");
    let made = cluster.admin.post(&path, map("a")).await;
    assert_eq!(made.headers["warning"], r#"299 - "mind the gap""#);
    made.ok();
    let asked = hook.take();
    let request = &asked[0].1["request"];
    assert_eq!(
        (&request["dryRun"], &request["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
}

#[tokio::test]
async fn a_name_is_made_when_all_have_changed_what_they_like() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(usual).await;
    let specs = json!([hook.spec("/any", json!({}))]);
    configure(&cluster, "Mutating", "a", specs.clone()).await;
    configure(&cluster, "Validating", "a", specs).await;
    let made = cluster
        .admin
        .post(MAPS, json!({"metadata": {"generateName": "a-"}}))
        .await
        .ok();
    let told: Vec<Value> = hook
        .take()
        .into_iter()
        .map(|(_, review)| review["request"]["object"]["metadata"]["name"].clone())
        .collect();
    assert_eq!(told, [Value::Null, made["metadata"]["name"].clone()]);
    let space = json!({"metadata": {"generateName": "space-"}});
    let space = cluster.admin.post("/api/v1/namespaces", space).await.ok();
    assert_eq!(
        space["metadata"]["labels"]["kubernetes.io/metadata.name"],
        space["metadata"]["name"]
    );
}

#[tokio::test]
async fn what_webhooks_do_is_counted_and_written_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("audit.log");
    let cluster = Cluster::with(|config| config.audit = crate::audit::options(&log)).await;
    let hook = Hook::start(|path, asked| {
        let mut answer = usual(path, asked);
        if path == "/second/adds" {
            answer["response"]["auditAnnotations"] = json!({"seen": "yes", "not a key": "no"});
        }
        answer
    })
    .await;
    let ignored = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    let adds = json!({"matchConditions": [{"name": "not-b", "expression": "request.name != 'b'"}]});
    let hooks = json!([
        hook.spec("/second/adds", adds),
        hook.spec("/never/mind", ignored)
    ]);
    configure(&cluster, "Mutating", "a", hooks).await;
    let mut given = map("a");
    given["data"] = json!({"k": "v"});
    let made = cluster
        .admin
        .send(
            Method::POST,
            MAPS,
            &[("audit-id", "one")],
            given.to_string(),
        )
        .await
        .ok();
    assert_eq!(made["data"]["second"], "2");
    let deny = json!([hook.spec("/deny", json!({}))]);
    configure(&cluster, "Validating", "a", deny).await;
    cluster.admin.post(MAPS, map("b")).await.refused(403);
    let events = crate::audit::events(&log, "one");
    let annotations = events.last().expect("an event")["annotations"].clone();
    expect_test::expect![[r#"
        {
          "authorization.k8s.io/decision": "allow",
          "authorization.k8s.io/reason": "",
          "failed-open.mutation.webhook.admission.k8s.io/round_0_index_1": "never.mind.example.com",
          "mutation.webhook.admission.k8s.io/round_0_index_0": "{\"configuration\":\"a\",\"webhook\":\"second.adds.example.com\",\"mutated\":true}",
          "mutation.webhook.admission.k8s.io/round_0_index_1": "{\"configuration\":\"a\",\"webhook\":\"never.mind.example.com\",\"mutated\":false}",
          "patch.webhook.admission.k8s.io/round_0_index_0": "{\"configuration\":\"a\",\"webhook\":\"second.adds.example.com\",\"patch\":[{\"op\":\"add\",\"path\":\"/data/second\",\"value\":\"2\"}],\"patchType\":\"JSONPatch\"}",
          "second.adds.example.com/seen": "yes"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&annotations).expect("JSON"));
    let metrics = cluster.admin.get("/metrics").await.text;
    let counted: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_admission_") && !line.contains("_seconds"))
        .collect();
    expect_test::expect![[r#"
        apiserver_admission_webhook_request_total{code="200",name="second.adds.example.com",operation="CREATE",rejected="false",type="admit"} 1
        apiserver_admission_webhook_request_total{code="403",name="deny.example.com",operation="CREATE",rejected="true",type="validating"} 1
        apiserver_admission_webhook_request_total{code="503",name="never.mind.example.com",operation="CREATE",rejected="false",type="admit"} 2
        apiserver_admission_webhook_rejection_count{error_type="no_error",name="deny.example.com",operation="CREATE",rejection_code="403",type="validating"} 1
        apiserver_admission_webhook_fail_open_count{name="never.mind.example.com",type="admit"} 2
        apiserver_admission_match_condition_exclusions_total{kind="webhook",name="second.adds.example.com",operation="CREATE",type="admit"} 1"#]]
    .assert_eq(&counted.join("\n"));
}
