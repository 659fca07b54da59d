//! Users whom somebody else knows: an issuer of tokens, a reviewer, another server; and tokens that a secret holds.

mod claims;

use access::authentication::Configuration;
use access::tokens::{Claims, SigningKey, Tokens, legacy};
use access::{User, authentication};
use apiserver::TokenWebhook;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, config};
use crate::webhooks::Hook;

const WHO: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// What is said of a token that nobody knows.
fn unknown() -> Value {
    json!({"user": {}, "error": "invalid bearer token"})
}

async fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> Value {
    let spec = json!({"token": token, "audiences": audiences});
    let answer = cluster.admin.post(WHO, json!({"spec": spec})).await;
    answer.ok()["status"].clone()
}

/// An issuer that publishes its key, and the key.
async fn issuer() -> (Hook, Tokens) {
    let key = SigningKey::generate_pkcs8().expect("a key");
    let key = || SigningKey::from_pkcs8(&key).expect("a key");
    let keys = Tokens::new("any", Vec::new(), key(), Vec::new()).jwks();
    let url = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
    let own = url.clone();
    let hook = Hook::start(move |path, _| {
        let url = own.lock().clone();
        match path {
            "/.well-known/openid-configuration" => {
                json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
            }
            _ => keys.clone(),
        }
    });
    let hook = hook.await;
    url.lock().clone_from(&hook.url);
    let tokens = Tokens::new(&hook.url, Vec::new(), key(), Vec::new());
    (hook, tokens)
}

fn token(tokens: &Tokens, audience: &str, seconds: i64) -> String {
    let claims = json!({
        "iss": "", "sub": "jane", "aud": [audience], "exp": Timestamp::now().as_second() + seconds,
    });
    let claims: Claims = serde_json::from_value(claims).expect("claims");
    tokens.sign(claims).expect("a token")
}

fn believed(hook: &Hook) -> Configuration {
    let authority = STANDARD.decode(&hook.bundle).expect("base64");
    let authority = String::from_utf8(authority).expect("PEM");
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": hook.url, "audiences": ["me"], "certificateAuthority": authority},
            "claimMappings": {"username": {"expression": "'oidc:' + claims.sub"}},
        }],
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
    });
    Configuration::parse(&text.to_string(), &[]).expect("good")
}

#[tokio::test]
async fn tokens_of_an_issuer_are_believed() {
    let (hook, tokens) = issuer().await;
    let cluster = Cluster::with(|config| config.policy.authentication = believed(&hook)).await;
    let good = review(&cluster, &token(&tokens, "me", 60), &[]).await;
    assert_eq!(good["user"]["username"], "oidc:jane", "{good}");
    assert_eq!(hook.take().len(), 2, "the document and the keys");
    let again = review(&cluster, &token(&tokens, "me", 60), &[]).await;
    assert_eq!(again["authenticated"], true);
    assert!(hook.take().is_empty(), "keys are kept");
    let other = review(&cluster, &token(&tokens, "you", 60), &[]).await;
    let why = other["error"].as_str().expect("an error");
    assert!(
        why.contains(r#"oidc: expected audience in ["me"] got ["you"]"#),
        "{why}"
    );
    let late = review(&cluster, &token(&tokens, "me", -60), &[]).await;
    assert!(
        late["error"]
            .as_str()
            .is_some_and(|e| e.contains("expired")),
        "{late}"
    );
    let forged = token(&issuer().await.1, "me", 60);
    assert_eq!(review(&cluster, &forged, &[]).await, unknown());
    // It is for the server's own audiences, not for somebody else's.
    let foreign = review(&cluster, &token(&tokens, "me", 60), &["else"]).await;
    assert_eq!(foreign, unknown());
}

#[tokio::test]
async fn a_reviewer_is_asked_and_its_answers_are_kept() {
    let hook = Hook::start(|_, question| {
        let known = question["spec"]["token"] == "secret";
        let user = json!({"username": "joe", "groups": ["g"], "extra": {"k": ["v"]}});
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "status": {"authenticated": known, "user": if known { user } else { json!({}) }}})
    });
    let hook = hook.await;
    let dir = tempfile::tempdir().expect("a directory");
    let kubeconfig = dir.path().join("reviewer.yaml");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": hook.url, "certificate-authority-data": hook.bundle}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&kubeconfig, text.to_string()).expect("written");
    let cluster = Cluster::with(|config| {
        config.policy.token_webhook = Some(TokenWebhook {
            kubeconfig,
            version: "v1".to_owned(),
            ttl: std::time::Duration::from_secs(60),
        });
    });
    let cluster = cluster.await;
    for _ in 0..2 {
        let found = review(&cluster, "secret", &[]).await;
        assert_eq!(found["user"]["username"], "joe", "{found}");
        assert_eq!(
            found["user"]["groups"],
            json!(["g", "system:authenticated"])
        );
    }
    assert_eq!(hook.take().len(), 1);
    assert_eq!(review(&cluster, "wrong", &[]).await, unknown());
}

#[tokio::test]
async fn a_file_changes_who_is_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("authentication.yaml");
    let nobody = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
    std::fs::write(&path, nobody).expect("written");
    let cluster = Cluster::with(|config| {
        config.policy.authentication_file = Some((path.clone(), nobody.to_owned()));
    });
    let cluster = cluster.await;
    let (hook, tokens) = issuer().await;
    let (url, authority) = (&hook.url, STANDARD.decode(&hook.bundle).expect("base64"));
    let authority = String::from_utf8(authority).expect("PEM");
    let jwt = json!([{"issuer": {"url": url, "audiences": ["me"], "certificateAuthority": authority},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}}}]);
    std::fs::write(&path, format!("{nobody}jwt: {jwt}\n")).expect("written");
    let wait = async {
        while review(&cluster, &token(&tokens, "me", 60), &[]).await["authenticated"] != true {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await;
    waited.expect("the file counts");
}

#[tokio::test]
async fn a_token_that_a_secret_holds_is_good_while_it_is_there() {
    let key = SigningKey::generate_pkcs8().expect("a key");
    let key = || SigningKey::from_pkcs8(&key).expect("a key");
    let cluster = Cluster::with(|config| {
        config.tokens = Tokens::new("https://new", Vec::new(), key(), Vec::new())
            .with_former_issuers(vec!["https://old".to_owned()]);
    });
    let cluster = cluster.await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "bot"}});
    let account = cluster.admin.post(accounts, account).await.ok();
    let uid = account["metadata"]["uid"].as_str().expect("a UID");
    let token = legacy::sign(&key(), "default", ("bot", uid), "held").expect("a token");
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "held", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&token)}});
    cluster.admin.post(secrets, secret).await.ok();
    let found = review(&cluster, &token, &[]).await;
    assert_eq!(
        found["user"]["username"], "system:serviceaccount:default:bot",
        "{found}"
    );
    let secret = format!("{secrets}/held");
    let used = async {
        loop {
            let secret = cluster.admin.get(&secret).await.ok();
            if secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].is_string() {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), used).await;
    waited.expect("its use is written down");
    let mark =
        json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    cluster.admin.patch(&secret, "merge", mark).await.ok();
    let marked = review(&cluster, &token, &[]).await;
    let why = marked["error"].as_str().expect("an error");
    assert!(why.contains("has been marked invalid"), "{why}");
    cluster.admin.delete(&secret).await.ok();
    let gone = review(&cluster, &token, &[]).await;
    assert_eq!(
        gone["error"],
        "[invalid bearer token, Token has been invalidated]"
    );
    // Tokens of the issuer of before are good as well; those of nobody are not.
    let sign = |issuer: &str| {
        let tokens = Tokens::new(issuer, Vec::new(), key(), Vec::new());
        let claims = json!({"iss": "", "sub": "system:serviceaccount:default:bot", "aud": [issuer],
            "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "bot", "uid": uid}}});
        let claims: Claims = serde_json::from_value(claims).expect("claims");
        tokens.sign(claims).expect("a token")
    };
    assert_eq!(
        review(&cluster, &sign("https://old"), &[]).await["authenticated"],
        true
    );
    assert_eq!(
        review(&cluster, &sign("https://other"), &[]).await,
        unknown()
    );
}

#[tokio::test]
async fn keys_are_published_for_others() {
    let cluster = Cluster::start().await;
    let somebody = cluster.as_user(User::service_account("default", "bot", "u"));
    let media = |answer: &Answer| answer.headers["content-type"].to_str().map(str::to_owned);
    let document = somebody.get("/.well-known/openid-configuration").await;
    assert_eq!(media(&document).expect("text"), "application/json");
    assert_eq!(document.headers["cache-control"], "public, max-age=3600");
    assert_eq!(
        document.body["jwks_uri"],
        "https://192.0.2.1:6443/openid/v1/jwks"
    );
    let keys = somebody.get("/openid/v1/jwks").await;
    assert_eq!(media(&keys).expect("text"), "application/jwk-set+json");
    assert_eq!(keys.body["keys"][0]["use"], "sig");
    let nobody = cluster.as_user(User::anonymous());
    nobody.get("/openid/v1/jwks").await.refused(403);
}

#[test]
fn the_usual_configuration_believes_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let usual = config(dir.path()).policy;
    let authentication::Configuration { jwt, anonymous } = usual.authentication;
    assert!(jwt.is_empty() && anonymous.is_none() && usual.token_webhook.is_none());
}
