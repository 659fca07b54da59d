//! What the caches promise.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::caches::Written;
use crate::{AnyStore, Caches, Key, Wake};

fn text(name: &str, uid: &str, version: u64, owner: Option<&str>) -> String {
    let owners: Vec<_> = owner
        .map(|uid| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid}))
        .into_iter()
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": name, "namespace": "d", "uid": uid, "resourceVersion": version.to_string(),
        "ownerReferences": owners, "managedFields": [{"manager": "m"}],
    }})
    .to_string()
}

fn caches() -> Caches {
    let mut caches = Caches::new();
    let mut wake = Wake::new(&mut caches, 0);
    wake.on_root::<ConfigMap>()
        .on_meta(|_, _| vec![Key::cluster("meta")])
        .index::<ConfigMap>("uid", |m| m.metadata.uid.clone().into_iter().collect());
    wake.finish();
    caches
}

fn store(caches: &Caches) -> std::sync::Arc<dyn AnyStore> {
    std::sync::Arc::clone(caches.stores().next().expect("declared"))
}

fn apply(caches: &Caches, text: &str) -> Vec<String> {
    let mut woken = Vec::new();
    let mut wake = |_, key: Key| woken.push(key.to_string());
    store(caches)
        .apply(text, Timestamp::UNIX_EPOCH, caches, &mut wake)
        .expect("readable");
    woken
}

#[test]
fn a_change_wakes_whom_it_concerns_and_managed_fields_are_dropped() {
    let caches = caches();
    assert_eq!(apply(&caches, &text("a", "1", 5, None)), ["meta", "d/a"]);
    let map = caches.of::<ConfigMap>().named("d", "a").expect("there");
    assert!(map.metadata.managed_fields.is_none());
}

#[test]
fn indexes_follow_changes() {
    let caches = caches();
    apply(&caches, &text("a", "1", 5, None));
    apply(&caches, &text("a", "2", 6, None));
    let maps = caches.of::<ConfigMap>();
    assert!(maps.indexed("uid", "1").is_empty());
    assert_eq!(maps.indexed("uid", "2").len(), 1);
}

#[test]
fn a_complete_list_removes_what_it_does_not_have() {
    let caches = caches();
    apply(&caches, &text("a", "1", 5, None));
    apply(&caches, &text("b", "2", 6, None));
    let store = store(&caches);
    assert!(!store.synced());
    let mut woken = Vec::new();
    let mut wake = |_, key: Key| woken.push(key.to_string());
    let same = text("a", "1", 5, None);
    store
        .stage(&same, Timestamp::UNIX_EPOCH, &caches, &mut wake)
        .expect("readable");
    store.finish(9, &caches, &mut wake);
    assert_eq!(woken, ["meta", "d/b"], "a is as it was");
    assert!(store.synced() && store.has_seen(&Written::At(9)));
    assert_eq!(store.count(), 1);
}

#[test]
fn own_writes_are_seen_by_version_and_by_absence() {
    let caches = caches();
    apply(&caches, &text("a", "1", 5, None));
    let store = store(&caches);
    assert!(store.has_seen(&Written::At(5)) && !store.has_seen(&Written::At(6)));
    let deleted = |uid: &str| Written::Deleted {
        key: Key::new("d", "a"),
        uid: uid.to_owned(),
    };
    assert!(!store.has_seen(&deleted("1")));
    assert!(store.has_seen(&deleted("0")), "another object by now");
    store.delete(&Key::new("d", "a"), 7, &caches, &mut |_, _| {});
    assert!(store.has_seen(&deleted("1")) && store.has_seen(&Written::At(7)));
}

#[test]
fn the_graph_knows_dependents_and_the_end_of_owners() {
    let caches = caches();
    apply(&caches, &text("o", "owner", 5, None));
    apply(&caches, &text("child", "c", 6, Some("owner")));
    assert_eq!(caches.meta.dependents("owner").len(), 1);
    assert!(!caches.meta.is_gone("owner"));
    let store = store(&caches);
    store.delete(&Key::new("d", "o"), 7, &caches, &mut |_, _| {});
    assert!(caches.meta.is_gone("owner"));
    store.delete(&Key::new("d", "child"), 8, &caches, &mut |_, _| {});
    assert!(caches.meta.dependents("owner").is_empty());
    assert!(!caches.meta.is_gone("c"), "nobody names it");
    assert!(caches.meta.in_namespace("d").is_empty());
}
