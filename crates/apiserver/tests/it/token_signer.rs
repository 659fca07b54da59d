//! Tokens that somebody elsewhere signs: a signer of the test's own on a Unix socket.

use std::sync::Arc;

use access::tokens::{Lifetimes, Tokens};
use apiserver::TokenSigner;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use token_signer::proto::external_jwt_signer_server::{ExternalJwtSigner, ExternalJwtSignerServer};
use token_signer::proto::{
    FetchKeysRequest, FetchKeysResponse, Key, MetadataRequest, MetadataResponse, SignJwtRequest,
    SignJwtResponse, Timestamp,
};
use tonic::{Request, Response, Status};

use crate::harness::Cluster;

const ISSUER: &str = "https://issuer.test";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// What the signer has at this moment: keys by name, whether each is hidden, and which one signs.
struct State {
    keys: Vec<(String, Arc<EcdsaKeyPair>, bool)>,
    signs: Result<usize, &'static str>,
    most_seconds: i64,
    fetched: usize,
}

#[derive(Clone)]
struct Signer(Arc<Mutex<State>>);

fn key() -> Arc<EcdsaKeyPair> {
    let random = SystemRandom::new();
    let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random);
    Arc::new(pair.expect("a key"))
}

/// The key as X.509 writes it.
fn spki(key: &EcdsaKeyPair) -> Vec<u8> {
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [&head[..], key.public_key().as_ref()].concat()
}

#[tonic::async_trait]
impl ExternalJwtSigner for Signer {
    async fn sign(
        &self,
        request: Request<SignJwtRequest>,
    ) -> Result<Response<SignJwtResponse>, Status> {
        let state = self.0.lock();
        let (name, key, _) = match state.signs {
            Ok(index) => &state.keys[index],
            Err(why) => return Err(Status::internal(why)),
        };
        let header = json!({"alg": "ES256", "kid": name, "typ": "JWT"}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        let message = format!("{header}.{}", request.into_inner().claims);
        let signature = key.sign(&SystemRandom::new(), message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("signed"));
        Ok(Response::new(SignJwtResponse { header, signature }))
    }

    async fn fetch_keys(
        &self,
        _: Request<FetchKeysRequest>,
    ) -> Result<Response<FetchKeysResponse>, Status> {
        let mut state = self.0.lock();
        state.fetched += 1;
        let keys = state.keys.iter().map(|(id, key, hidden)| Key {
            key_id: id.clone(),
            key: spki(key),
            exclude_from_oidc_discovery: *hidden,
        });
        Ok(Response::new(FetchKeysResponse {
            keys: keys.collect(),
            data_timestamp: Some(Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
            refresh_hint_seconds: 1800,
        }))
    }

    async fn metadata(
        &self,
        _: Request<MetadataRequest>,
    ) -> Result<Response<MetadataResponse>, Status> {
        let max_token_expiration_seconds = self.0.lock().most_seconds;
        Ok(Response::new(MetadataResponse {
            max_token_expiration_seconds,
        }))
    }
}

/// A signer with a published and a hidden key, and the name of his socket.
fn signer(dir: &TempDir) -> (Signer, String) {
    let signer = Signer(Arc::new(Mutex::new(State {
        keys: vec![
            ("one".to_owned(), key(), false),
            ("old".to_owned(), key(), true),
        ],
        signs: Ok(0),
        most_seconds: 7200,
        fetched: 0,
    })));
    let socket = dir.path().join("signer.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let service = ExternalJwtSignerServer::new(signer.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(incoming));
    (signer, socket.display().to_string())
}

async fn cluster(socket: &str) -> Cluster {
    let found = TokenSigner::introduce(socket).await;
    let found = found.unwrap_or_else(|why| panic!("{why}"));
    let tokens = Tokens::signed_elsewhere(ISSUER, Vec::new(), found.keys);
    let tokens = tokens.with_lifetimes(Lifetimes {
        most_seconds: found.most_seconds,
        ..Lifetimes::default()
    });
    let cluster = Cluster::with(|config| {
        config.tokens = tokens;
        config.policy.token_signer = Some(Arc::new(found.signer));
    })
    .await;
    let account = json!({"metadata": {"name": "bot"}});
    cluster.admin.post(ACCOUNTS, account).await.ok();
    cluster
}

async fn token(cluster: &Cluster) -> String {
    let path = format!("{ACCOUNTS}/bot/token");
    let answer = cluster.admin.post(&path, json!({"spec": {}})).await.ok();
    answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn review(cluster: &Cluster, token: &str) -> Value {
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = json!({"spec": {"token": token}});
    cluster.admin.post(path, review).await.ok()["status"].clone()
}

#[tokio::test]
async fn tokens_are_signed_elsewhere_and_verified_by_the_keys_of_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (signer, socket) = signer(&dir);
    let cluster = cluster(&socket).await;
    let path = format!("{ACCOUNTS}/bot/token");
    let long = json!({"spec": {"expirationSeconds": 10_000}});
    let answer = cluster.admin.post(&path, long).await;
    let warning = "299 - \"requested expiration of 10000 seconds shortened to 7200 seconds\"";
    assert_eq!(answer.headers["warning"], warning);
    assert_eq!(answer.body["spec"]["expirationSeconds"], 7200);

    let first = token(&cluster).await;
    let known = review(&cluster, &first).await;
    assert_eq!(
        known["user"]["username"],
        "system:serviceaccount:default:bot"
    );
    let jwks = cluster.admin.get("/openid/v1/jwks").await;
    let names: Vec<&Value> = jwks.body["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|k| &k["kid"])
        .collect();
    assert_eq!(names, ["one"]);
    let kept = jwks.headers["cache-control"].to_str().expect("text");
    let seconds: u64 = kept
        .trim_start_matches("public, max-age=")
        .parse()
        .expect("seconds");
    assert!((1700..=1800).contains(&seconds), "{kept}");

    // He signs with a key of which nobody has heard.
    signer.0.lock().keys = vec![
        ("two".to_owned(), key(), false),
        ("old".to_owned(), key(), true),
    ];
    let second = token(&cluster).await;
    assert_eq!(review(&cluster, &second).await["authenticated"], true);
    let gone = review(&cluster, &first).await;
    assert_eq!(
        gone["error"],
        "[invalid bearer token, invalid signature, no keys found]"
    );

    // Others' tokens are no reason to ask.
    let asked = signer.0.lock().fetched;
    review(&cluster, "e30.eyJpc3MiOiJvdGhlciJ9.AA").await;
    assert_eq!(signer.0.lock().fetched, asked);
    let page = cluster.admin.get("/metrics").await.text;
    for line in [
        "apiserver_externaljwt_sign_request_total{code=\"OK\"} 3",
        "apiserver_externaljwt_fetch_keys_data_timestamp 1800000000",
    ] {
        assert!(page.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_signer_who_does_not_do_as_he_should_is_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (signer, socket) = signer(&dir);
    let cluster = cluster(&socket).await;
    let path = format!("{ACCOUNTS}/bot/token");
    let refusal = async || {
        let answer = cluster.admin.post(&path, json!({"spec": {}})).await;
        answer.refused(500).message().to_owned()
    };
    signer.0.lock().signs = Ok(1);
    assert_eq!(
        refusal().await,
        "Internal error occurred: failed to generate token: while validating header: key used for signing JWT (kid: old) \
         is excluded from OIDC discovery docs"
    );
    signer.0.lock().signs = Err("boom");
    assert_eq!(
        refusal().await,
        "Internal error occurred: failed to generate token: while signing jwt: rpc error: code = Internal desc = boom"
    );
    signer.0.lock().most_seconds = 599;
    let why = TokenSigner::introduce(&socket)
        .await
        .err()
        .expect("an error");
    assert_eq!(
        why,
        "max token life supported by external-jwt-signer (599s) is less than acceptable (min 600s)"
    );
    signer.0.lock().keys.clear();
    let why = TokenSigner::introduce(&socket)
        .await
        .err()
        .expect("an error");
    assert!(
        why.ends_with("while fetching token verification keys: found no keys"),
        "{why}"
    );
}
