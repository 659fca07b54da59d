//! Issue, verify, and every way to be refused.

use std::collections::HashMap;
use std::sync::Arc;

use expect_test::expect;
use jiff::{SignedDuration, Timestamp};
use machinery::Object;
use serde_json::{Value, json};

use super::{PublicKey, RequestContext, SigningKey, TokenError, Tokens};
use crate::Lookup;

#[derive(Default)]
struct Objects(HashMap<(String, String), Arc<Object>>);

impl Objects {
    fn put(&mut self, resource: &str, object: Value) {
        let object = Object::from_value(object).expect("an object");
        self.0.insert(
            (resource.to_owned(), object.name().to_owned()),
            Arc::new(object),
        );
    }
}

impl Lookup for Objects {
    fn get(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<Arc<Object>> {
        self.0.get(&(resource.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, _: &str, resource: &str, _: &str) -> Vec<Arc<Object>> {
        self.0
            .iter()
            .filter(|((r, _), _)| r == resource)
            .map(|(_, o)| o.clone())
            .collect()
    }
}

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn tokens() -> Tokens {
    let key = SigningKey::generate_pkcs8().expect("a key");
    Tokens::new(
        ISSUER,
        Vec::new(),
        SigningKey::from_pkcs8(&key).expect("P-256"),
        Vec::new(),
    )
}

fn now() -> Timestamp {
    "2026-11-21T06:00:00Z".parse().expect("a time")
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    let meta = |name: &str, uid: &str| json!({"name": name, "namespace": "ns", "uid": uid});
    objects.put("serviceaccounts", json!({"metadata": meta("sa", "sa-uid")}));
    objects.put(
        "pods",
        json!({"metadata": meta("p", "p-uid"), "spec": {"serviceAccountName": "sa", "nodeName": "n"}}),
    );
    objects.put("nodes", json!({"metadata": {"name": "n", "uid": "n-uid"}}));
    objects
}

fn issue(tokens: &Tokens, objects: &Objects, spec: Value) -> Result<Object, String> {
    let request = Object::from_value(json!({"spec": spec})).expect("an object");
    let account = objects
        .get("", "serviceaccounts", "ns", "sa")
        .expect("the account");
    let context = RequestContext {
        account: &account,
        lookup: objects,
        now: now(),
        token_id: "token-id",
    };
    tokens
        .issue(&request, &context)
        .map_err(|e| format!("{} {}", e.code, e.message))
}

fn token_of(answer: &Object) -> String {
    answer.str_at(&["status", "token"]).to_owned()
}

#[test]
fn a_token_for_a_pod_names_all_it_is_bound_to() {
    let (tokens, objects) = (tokens(), objects());
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "p-uid"});
    let answer = issue(
        &tokens,
        &objects,
        json!({"boundObjectRef": bound, "expirationSeconds": 3607}),
    );
    let answer = answer.expect("a token");
    assert_eq!(
        answer.str_at(&["status", "expirationTimestamp"]),
        "2026-11-21T07:00:07Z"
    );
    let later = now() + SignedDuration::from_hours(2);
    let known = tokens
        .verify(&token_of(&answer), later, &[], &objects)
        .expect("good");
    expect![[r#"
        Authenticated {
            user: User {
                name: "system:serviceaccount:ns:sa",
                uid: "sa-uid",
                groups: [
                    "system:serviceaccounts",
                    "system:serviceaccounts:ns",
                ],
                extra: {
                    "authentication.kubernetes.io/credential-id": [
                        "JTI=token-id",
                    ],
                    "authentication.kubernetes.io/node-name": [
                        "n",
                    ],
                    "authentication.kubernetes.io/node-uid": [
                        "n-uid",
                    ],
                    "authentication.kubernetes.io/pod-name": [
                        "p",
                    ],
                    "authentication.kubernetes.io/pod-uid": [
                        "p-uid",
                    ],
                },
            },
            audiences: [
                "https://kubernetes.default.svc.cluster.local",
            ],
            stale: true,
            legacy: None,
        }
    "#]]
    .assert_debug_eq(&known);
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let (tokens, objects) = (tokens(), objects());
    let refused = |spec| issue(&tokens, &objects, spec).expect_err("refused");
    expect![[r#"422 TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"#]]
        .assert_eq(&refused(json!({"expirationSeconds": 10})));
    expect![[r#"404 pods "q" not found"#]].assert_eq(&refused(
        json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "q"}}),
    ));
    expect![[r#"409 Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated"#]]
        .assert_eq(&refused(json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "x"}})));
    expect!["400 cannot bind token to object of type apps/v1, Kind=Deployment"].assert_eq(
        &refused(
            json!({"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "p"}}),
        ),
    );
}

#[test]
fn tokens_are_refused_when_forged_late_foreign_or_orphaned() {
    let (tokens, mut objects) = (tokens(), objects());
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p"});
    let answer = issue(&tokens, &objects, json!({"boundObjectRef": bound})).expect("a token");
    let token = token_of(&answer);
    let verify = |token: &str, objects: &Objects, hours: i64, audiences: &[String]| {
        let at = now() + SignedDuration::from_hours(hours);
        tokens
            .verify(token, at, audiences, objects)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(verify(&token, &objects, 0, &[]), Ok(()));
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    assert_eq!(
        verify(&forged, &objects, 0, &[]),
        Err("invalid signature".into())
    );
    assert_eq!(
        verify("abc", &objects, 0, &[]),
        Err(TokenError::Foreign.to_string())
    );
    let late = "service account token has expired";
    assert_eq!(verify(&token, &objects, 2, &[]), Err(late.into()));
    let early = "service account token is not valid yet";
    assert_eq!(verify(&token, &objects, -1, &[]), Err(early.into()));
    expect![[r#"token audiences ["https://kubernetes.default.svc.cluster.local"] is invalid for the target audiences ["vault"]"#]]
        .assert_eq(&verify(&token, &objects, 0, &["vault".into()]).expect_err("refused"));
    let other = self::tokens();
    let by_other = other
        .verify(&token, now(), &[], &objects)
        .expect_err("another key");
    assert_eq!(by_other.to_string(), "invalid signature, no keys found");

    objects.put("pods", json!({"metadata": {"name": "p", "uid": "another"}}));
    expect!["pod UID (another) does not match service account pod ref claim (p-uid)"]
        .assert_eq(&verify(&token, &objects, 0, &[]).expect_err("refused"));
    objects.0.remove(&("pods".to_owned(), "p".to_owned()));
    expect!["service account token has been invalidated"]
        .assert_eq(&verify(&token, &objects, 0, &[]).expect_err("refused"));
}

#[test]
fn keys_are_published() {
    let tokens = tokens();
    let jwks = tokens.jwks();
    assert_eq!(
        jwks["keys"][0]["kid"],
        tokens.signing.as_ref().expect("a key").public().id()
    );
    assert_eq!(jwks["keys"][0]["x"].as_str().map(str::len), Some(43));
}

#[test]
fn a_key_survives_pem() {
    use base64::Engine;
    let der = SigningKey::generate_pkcs8().expect("a key");
    let body = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let (a, b) = (SigningKey::from_pem(&pem), SigningKey::from_pkcs8(&der));
    assert_eq!(a.expect("PEM").public(), b.expect("DER").public());
    assert!(SigningKey::from_pem("nothing").is_err());
}

/// Keys as openssl and kubeadm write them; made for these tests.
const KEY_FILES: [(&str, &str); 4] = [
    ("RS256", include_str!("testdata/rsa.key")),
    ("ES256", include_str!("testdata/p256.key")),
    ("ES384", include_str!("testdata/p384.key")),
    ("ES512", include_str!("testdata/p521.key")),
];

#[test]
fn keys_of_every_kind_sign_and_verify() {
    let objects = objects();
    for (algorithm, file) in KEY_FILES {
        let key = SigningKey::from_pem(file).expect("a key");
        assert_eq!(key.public().algorithm(), algorithm);
        let signing = Tokens::new(ISSUER, Vec::new(), key, Vec::new());
        let token = token_of(&issue(&signing, &objects, json!({})).expect("a token"));
        // Another server of the same issuer, which signs with a key of its own, accepts the first one's.
        let accepted = PublicKey::all_from_pem(file).expect("a key");
        let key = SigningKey::generate_pkcs8().expect("a key");
        let key = SigningKey::from_pkcs8(&key).expect("P-256");
        let other = Tokens::new(ISSUER, Vec::new(), key, accepted);
        let known = other.verify(&token, now(), &[], &objects).expect("good");
        assert_eq!(known.user.name, "system:serviceaccount:ns:sa");
        let document = other.openid_configuration("");
        let algorithms = document["id_token_signing_alg_values_supported"].to_string();
        assert!(algorithms.contains(algorithm), "{algorithms}");
        // A third one does not know the key.
        let refused = tokens().verify(&token, now(), &[], &objects);
        assert_eq!(
            refused.expect_err("refused").to_string(),
            "invalid signature, no keys found"
        );
    }
}

#[test]
fn a_public_key_has_the_id_that_its_private_one_signs_with() {
    let private = SigningKey::from_pem(KEY_FILES[0].1).expect("a key");
    let public = PublicKey::all_from_pem(include_str!("testdata/rsa.pub")).expect("a key");
    assert_eq!(public, [private.public().clone()]);
    let jwk = public[0].jwk();
    assert_eq!((&jwk["kty"], &jwk["e"]), (&json!("RSA"), &json!("AQAB")));
    let both = format!("{}{}", KEY_FILES[1].1, KEY_FILES[2].1);
    assert_eq!(PublicKey::all_from_pem(&both).expect("keys").len(), 2);
    let certificate = include_str!("testdata/p256.crt");
    let certified = PublicKey::all_from_pem(certificate).expect("a key");
    let private = SigningKey::from_pem(KEY_FILES[1].1).expect("a key");
    assert_eq!(certified, [private.public().clone()]);
}
