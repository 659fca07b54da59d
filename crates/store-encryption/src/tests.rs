//! Values as they stand in the store below, and as they are read.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use store::embedded::{Engine, Options};
use store::{Op, Range, RangeEnd, Store, Txn};

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
    assert!(text("{kms: {}}").contains("not supported"));
    assert!(text("{rot13: {}}").contains("unknown provider"));
    assert!(text("").contains("at least one provider"));
}
