//! Claims that a token does not hold itself.

use std::sync::Arc;

use access::tokens::{SigningKey, Tokens};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::{Configuration, review};
use crate::harness::Cluster;
use crate::webhooks::Hook;

/// Signs whatever it is given.
struct Key {
    pair: EcdsaKeyPair,
    jwks: Value,
}

impl Key {
    fn new() -> Self {
        let document = SigningKey::generate_pkcs8().expect("a key");
        let random = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = SigningKey::from_pkcs8(&document).expect("a key");
        Self {
            pair: EcdsaKeyPair::from_pkcs8(how, &document, &random).expect("a key"),
            jwks: Tokens::new("any", Vec::new(), key, Vec::new()).jwks(),
        }
    }

    fn sign(&self, issuer: &str, more: &Value) -> String {
        let mut claims = more.clone();
        claims["iss"] = issuer.into();
        claims["aud"] = "me".into();
        claims["exp"] = (Timestamp::now().as_second() + 60).into();
        let header = json!({"alg": "ES256", "kid": self.jwks["keys"][0]["kid"]});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("signed"));
        format!("{message}.{signature}")
    }
}

#[tokio::test]
async fn groups_are_had_from_where_the_token_says() {
    let key = Arc::new(Key::new());
    let url = Arc::new(Mutex::new(String::new()));
    let (own, signs) = (url.clone(), key.clone());
    let hook = Hook::start(move |path, question| {
        let url = own.lock().clone();
        match path {
            "/.well-known/openid-configuration" => {
                json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
            }
            "/keys" => signs.jwks.clone(),
            "/groups" if question["shown"] == "Bearer show" => {
                signs.sign(&url, &json!({"teams": ["red", "blue"]})).into()
            }
            "/none" => signs.sign(&url, &json!({})).into(),
            _ => "nothing".into(),
        }
    })
    .await;
    url.lock().clone_from(&hook.url);
    let authority = STANDARD.decode(&hook.bundle).expect("base64");
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {
                "url": hook.url, "audiences": ["me"],
                "certificateAuthority": String::from_utf8(authority).expect("PEM"),
            },
            "claimMappings": {
                "username": {"claim": "sub", "prefix": ""}, "groups": {"claim": "teams", "prefix": "t:"},
            },
        }],
    });
    let configuration = Configuration::parse(&text.to_string(), &[]).expect("good");
    let cluster = Cluster::with(|config| config.policy.authentication = configuration).await;
    let says = async |claims: Value| review(&cluster, &key.sign(&hook.url, &claims), &[]).await;
    let source = |path: &str, token: &str| {
        json!({
            "sub": "jane", "_claim_names": {"teams": "s"},
            "_claim_sources": {"s": {"endpoint": format!("{}{path}", hook.url), "access_token": token}},
        })
    };
    let known = says(source("/groups", "show")).await;
    let groups = json!(["t:red", "t:blue", "system:authenticated"]);
    assert_eq!(known["user"]["groups"], groups, "{known}");
    let own = says(json!({"sub": "jane", "teams": "green", "_claim_names": {"teams": "s"}})).await;
    assert_eq!(
        own["user"]["groups"],
        json!(["t:green", "system:authenticated"])
    );
    for (claims, why) in [
        (source("/none", ""), "did not contain claim: teams"),
        (source("/groups", "wrong"), "malformed token"),
        (
            json!({"sub": "jane", "_claim_names": {"teams": "s"}}),
            "oidc: no claim sources",
        ),
        (
            json!({"sub": "jane", "_claim_names": {"teams": "s"}, "_claim_sources": {}}),
            "id token _claim_names contained a source s missing in _claims_sources",
        ),
        (
            json!({"sub": "jane", "_claim_names": {"teams": "s"}, "_claim_sources": {"s": {"endpoint": "http://127.0.0.1:1/"}}}),
            "is no https URL",
        ),
    ] {
        let refused = says(claims).await;
        let said = refused["error"].as_str().expect("an error");
        assert!(
            said.contains("oidc: could not expand distributed claims: ") && said.contains(why),
            "{said}"
        );
    }
}
