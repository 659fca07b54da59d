//! Values as they stand in the store below, and as they are read.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use store::embedded::{Engine, Options};
use store::{Op, Range, RangeEnd, Store, Txn};

use super::kms::proto::key_management_service_server::{
    KeyManagementService, KeyManagementServiceServer,
};
use super::kms::proto::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use super::{Configuration, Encrypted};

const KEY: &str = "/registry/secrets/default/s";
const A: &str = "{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}";
const B: &str = "{name: b, secret: YWJjZGVmZ2hpamtsbW5vcGFiY2RlZmdoaWprbG1ub3A=}";

fn configuration(resources: &str, providers: &[String]) -> Configuration {
    let providers = providers.join(", ");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n\
         resources:\n- resources: [{resources}]\n  providers: [{providers}]\n"
    );
    Configuration::parse(&text).expect("a configuration")
}

fn by(provider: &str, keys: &str) -> String {
    format!("{{{provider}: {{keys: [{keys}]}}}}")
}

fn identity() -> String {
    "{identity: {}}".to_owned()
}

async fn put(store: &dyn Store, key: &str, value: &str) {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    let success = vec![Op::Put {
        key,
        value,
        ttl: None,
    }];
    let txn = Txn {
        success,
        ..Txn::default()
    };
    store.txn(txn).await.expect("written");
}

async fn get(store: &dyn Store, key: &str) -> Result<String, String> {
    let found = store
        .range(Range::key(key.to_owned()))
        .await
        .map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&found.kvs[0].value).into_owned())
}

fn below() -> (Arc<dyn Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Engine::open(dir.path(), Options::default()).expect("a store");
    (store, dir)
}

#[tokio::test]
async fn every_provider_reads_what_it_wrote_and_shows_whose_it_is() {
    for provider in ["aesgcm", "aescbc", "secretbox"] {
        let (inner, _dir) = below();
        let own = configuration("secrets", &[by(provider, A)]);
        let store = Encrypted::new(inner.clone(), own);
        let mut watch = store
            .watch(KEY.into(), RangeEnd::Key, store.revision() + 1)
            .await
            .expect("a watch");
        put(&store, KEY, "the value").await;
        assert_eq!(get(&store, KEY).await.as_deref(), Ok("the value"));
        let event = watch.next().await.expect("an event").expect("readable");
        assert_eq!(&event.events[0].kv.value[..], b"the value");
        let stored = get(&*inner, KEY).await.expect("there");
        assert!(
            stored.starts_with(&format!("k8s:enc:{provider}:v1:a:")),
            "{stored}"
        );
        assert!(!stored.contains("the value"));
        // Nothing else is touched.
        put(&store, "/registry/configmaps/default/c", "plain").await;
        let stored = get(&*inner, "/registry/configmaps/default/c").await;
        assert_eq!(stored.as_deref(), Ok("plain"));
    }
}

#[tokio::test]
async fn keys_rotate() {
    let (inner, _dir) = below();
    let with =
        |providers: &[String]| Encrypted::new(inner.clone(), configuration("secrets", providers));
    put(&*inner, KEY, "from before").await;
    let both = with(&[by("aesgcm", A), identity()]);
    assert_eq!(get(&both, KEY).await.as_deref(), Ok("from before"));
    assert_eq!(both.rewrite_stale().await, Ok(1));
    assert_eq!(both.rewrite_stale().await, Ok(0));
    let next = with(&[by("secretbox", B), by("aesgcm", A)]);
    assert_eq!(get(&next, KEY).await.as_deref(), Ok("from before"));
    assert_eq!(next.rewrite_stale().await, Ok(1));
    assert_eq!(
        get(&with(&[by("secretbox", B)]), KEY).await.as_deref(),
        Ok("from before")
    );
    // Who has lost a key is told which.
    let lost = get(&with(&[by("aesgcm", A), identity()]), KEY)
        .await
        .expect_err("unreadable");
    assert!(
        lost.contains("k8s:enc:secretbox:v1:b:") && lost.contains(KEY),
        "{lost}"
    );
    let other = with(&[by("secretbox", &B.replace("YWJj", "YWJk"))]);
    let forged = get(&other, KEY).await.expect_err("unreadable");
    assert!(forged.contains("not encrypted by this key"), "{forged}");
    let unnamed = Encrypted::new(
        inner.clone(),
        configuration("configmaps", &[by("aesgcm", A)]),
    );
    assert!(
        get(&unnamed, KEY).await.is_err(),
        "never shown as if it were plain"
    );
    // And back to plain values.
    let plain = with(&[identity(), by("secretbox", B)]);
    assert_eq!(plain.rewrite_stale().await, Ok(1));
    assert_eq!(get(&*inner, KEY).await.as_deref(), Ok("from before"));
}

/// A storage migration writes objects as they are: those under an old key are encrypted by the new one.
#[tokio::test]
async fn one_value_is_refreshed_where_it_is_stale() {
    let (inner, _dir) = below();
    put(&*inner, KEY, "from before").await;
    let store = Encrypted::new(
        inner.clone(),
        configuration("secrets", &[by("aesgcm", A), identity()]),
    );
    let key = Bytes::from_static(KEY.as_bytes());
    let at = store.revision();
    assert_eq!(
        store.refresh(&key, at + 1).await,
        Ok(None),
        "somebody else wrote it"
    );
    let next = store
        .refresh(&key, at)
        .await
        .expect("written")
        .expect("it was stale");
    assert!(next > at);
    assert_eq!(store.refresh(&key, next).await, Ok(None));
    assert_eq!(get(&store, KEY).await.as_deref(), Ok("from before"));
    assert!(
        !get(&*inner, KEY)
            .await
            .expect("there")
            .contains("from before")
    );
}

#[tokio::test]
async fn a_value_counts_only_in_its_place() {
    let (inner, _dir) = below();
    let store = Encrypted::new(inner.clone(), configuration("secrets", &[by("aesgcm", A)]));
    put(&store, KEY, "the value").await;
    let found = inner.range(Range::key(KEY)).await.expect("readable");
    let copy = Op::Put {
        key: "/registry/secrets/mine/s".into(),
        value: found.kvs[0].value.clone(),
        ttl: None,
    };
    let txn = Txn {
        success: vec![copy],
        ..Txn::default()
    };
    inner.txn(txn).await.expect("written");
    assert!(get(&store, "/registry/secrets/mine/s").await.is_err());
}

#[test]
fn resources_are_named_one_by_one_or_by_wildcards() {
    let covers = |resources: &str, key: &str| {
        let found = configuration(resources, &[by("aesgcm", A)]);
        found.providers(key.as_bytes()).is_some()
    };
    assert!(covers("secrets", KEY));
    assert!(!covers("secrets", "/registry/apps/secrets/default/s"));
    assert!(covers(
        "deployments.apps",
        "/registry/apps/deployments/ns/d"
    ));
    assert!(covers("'*.apps'", "/registry/apps/deployments/ns/d") && !covers("'*.apps'", KEY));
    assert!(covers("'*.'", KEY) && !covers("'*.'", "/registry/apps/deployments/ns/d"));
    assert!(covers("'*.*'", KEY) && covers("'*.*'", "/registry/stable.example.com/tabs/ns/t"));
}

#[test]
fn what_is_wrong_is_told_without_the_key() {
    let text = |provider: &str| {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n\
             resources: [{{resources: [secrets], providers: [{provider}]}}]\n"
        );
        Configuration::parse(&text).err().expect("unusable")
    };
    let short = text("{aesgcm: {keys: [{name: a, secret: c2hvcnQ=}]}}");
    assert!(
        short.contains("not of the expected length, got 5") && !short.contains("c2hv"),
        "{short}"
    );
    let garbled = text("{aesgcm: {keys: [{name: a, secret: '!hush!'}]}}");
    assert!(
        garbled.contains("base64") && !garbled.contains("hush"),
        "{garbled}"
    );
    assert!(text("{kms: {}}").contains("name is a mandatory field"));
    let kms = |more: &str| text(&format!("{{kms: {{name: mine, {more}}}}}"));
    assert!(kms("apiVersion: v1, endpoint: 'unix:///x'").contains("only v2 is supported"));
    assert!(kms("apiVersion: v2, endpoint: 'http://x'").contains("only unix is supported"));
    assert!(kms("apiVersion: v2, endpoint: 'unix:///x', timeout: 0s").contains("positive"));
    assert!(kms("apiVersion: v2, endpoint: 'unix:///x', cachesize: 1").contains("cachesize"));
    assert!(text("{rot13: {}}").contains("unknown provider"));
    assert!(text("").contains("at least one provider"));
}

/// A key management service of the test's own: what it seals is turned around and marked with its present key.
struct Plugin {
    key: Arc<std::sync::Mutex<String>>,
    calls: Arc<std::sync::atomic::AtomicUsize>,
}

type Answered<T> = Result<tonic::Response<T>, tonic::Status>;

#[async_trait::async_trait]
impl KeyManagementService for Plugin {
    async fn status(&self, _: tonic::Request<StatusRequest>) -> Answered<StatusResponse> {
        let key_id = self.key.lock().expect("whole").clone();
        let healthz = if key_id.is_empty() { "ill" } else { "ok" };
        Ok(tonic::Response::new(StatusResponse {
            version: "v2".to_owned(),
            healthz: healthz.to_owned(),
            key_id,
        }))
    }

    async fn encrypt(&self, request: tonic::Request<EncryptRequest>) -> Answered<EncryptResponse> {
        self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut ciphertext = request.into_inner().plaintext;
        ciphertext.reverse();
        let key_id = self.key.lock().expect("whole").clone();
        let annotations = [("key.example.com".to_owned(), key_id.clone().into_bytes())].into();
        Ok(tonic::Response::new(EncryptResponse {
            ciphertext,
            key_id,
            annotations,
        }))
    }

    async fn decrypt(&self, request: tonic::Request<DecryptRequest>) -> Answered<DecryptResponse> {
        self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let request = request.into_inner();
        if request.annotations.get("key.example.com") != Some(&request.key_id.into_bytes()) {
            return Err(tonic::Status::invalid_argument("not sealed here"));
        }
        let mut plaintext = request.ciphertext;
        plaintext.reverse();
        Ok(tonic::Response::new(DecryptResponse { plaintext }))
    }
}

/// Serves the plug-in; gives its provider, its key and how often it was asked to seal or to open.
#[allow(clippy::type_complexity, reason = "three parts of one thing")]
fn plugin(
    dir: &std::path::Path,
) -> (
    String,
    Arc<std::sync::Mutex<String>>,
    Arc<std::sync::atomic::AtomicUsize>,
) {
    let socket = dir.join("kms.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let plugin = Plugin {
        key: Arc::new(std::sync::Mutex::new("one".to_owned())),
        calls: Arc::default(),
    };
    let (key, calls) = (plugin.key.clone(), plugin.calls.clone());
    let server =
        tonic::transport::Server::builder().add_service(KeyManagementServiceServer::new(plugin));
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    tokio::spawn(server.serve_with_incoming(incoming));
    let endpoint = socket.display();
    let provider =
        format!("{{kms: {{apiVersion: v2, name: mine, endpoint: 'unix://{endpoint}'}}}}");
    (provider, key, calls)
}

#[tokio::test]
async fn a_key_management_service_seals_seeds_and_never_sees_values() {
    let (below, dir) = below();
    let (kms, _, calls) = plugin(dir.path());
    let asked = || calls.load(std::sync::atomic::Ordering::SeqCst);
    let store =
        |providers: &[String]| Encrypted::new(below.clone(), configuration("secrets", providers));
    let first = store(&[kms.clone(), identity()]);
    for index in 0..20 {
        put(&first, &format!("{KEY}{index}"), "plain").await;
    }
    assert_eq!(asked(), 1, "one seed for all");
    let stored = get(&*below, &format!("{KEY}0")).await.expect("there");
    assert!(stored.starts_with("k8s:enc:kms:v2:mine:") && !stored.contains("plain"));
    assert_ne!(
        stored,
        get(&*below, &format!("{KEY}1")).await.expect("there")
    );
    // Another server, which knows nothing yet, asks once for all that one seed has encrypted.
    let second = store(&[kms, identity()]);
    for index in 0..20 {
        let read = get(&second, &format!("{KEY}{index}")).await;
        assert_eq!(read.as_deref(), Ok("plain"));
    }
    assert_eq!(asked(), 2);
    let mut moved = below
        .range(Range::key(format!("{KEY}0")))
        .await
        .expect("there");
    let moved = moved.kvs.remove(0).value;
    let success = vec![Op::Put {
        key: KEY.into(),
        value: moved,
        ttl: None,
    }];
    let txn = Txn {
        success,
        ..Txn::default()
    };
    below.txn(txn).await.expect("written");
    let why = get(&second, KEY).await.expect_err("bound to its place");
    assert!(why.contains("changed since"), "{why}");
}

#[tokio::test]
async fn keys_rotate_and_the_configuration_changes_under_way() {
    let (below, dir) = below();
    let (kms, key, _) = plugin(dir.path());
    let aes = by("aesgcm", A);
    let store = Encrypted::new(
        below.clone(),
        configuration("secrets", std::slice::from_ref(&aes)),
    );
    put(&store, KEY, "plain").await;
    let mut watch = store
        .watch(
            "/registry/".into(),
            RangeEnd::Before("/registry0".into()),
            store.revision() + 1,
        )
        .await
        .expect("a watch");
    store.replace(configuration("secrets", &[kms.clone(), aes]));
    assert_eq!(get(&store, KEY).await.as_deref(), Ok("plain"));
    assert_eq!(store.rewrite_stale().await.expect("written"), 1);
    assert_eq!(store.rewrite_stale().await.expect("written"), 0);
    let batch = watch.next().await.expect("a batch").expect("readable");
    assert_eq!(&*batch.events[0].kv.value, b"plain");
    // Another key of the service: a new server seals by it, and what the former sealed is stale.
    "two".clone_into(&mut key.lock().expect("whole"));
    let later = Encrypted::new(
        below.clone(),
        configuration("secrets", std::slice::from_ref(&kms)),
    );
    assert_eq!(get(&later, KEY).await.as_deref(), Ok("plain"));
    assert_eq!(later.rewrite_stale().await.expect("written"), 1);
    assert_eq!(later.rewrite_stale().await.expect("written"), 0);
    assert_eq!(get(&later, KEY).await.as_deref(), Ok("plain"));
    // A service that is ill encrypts nothing, and says so.
    key.lock().expect("whole").clear();
    let ill = Encrypted::new(below.clone(), configuration("secrets", &[kms]));
    let success = vec![Op::Put {
        key: KEY.into(),
        value: "x".into(),
        ttl: None,
    }];
    let txn = Txn {
        success,
        ..Txn::default()
    };
    let why = ill.txn(txn).await.expect_err("refused").to_string();
    assert!(why.contains("got unexpected healthz status: ill"), "{why}");
    assert_eq!(
        get(&ill, KEY).await.as_deref(),
        Ok("plain"),
        "reading goes on"
    );
}
