//! A namespace and what is left in it.

use std::sync::Arc;

use control::{Answer, Caches, Failure, Key, Look, Meta, MetaChange, Question, Resource};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

/// All that a decision may depend on.
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// What the cache knows to be in it.
    pub content: Vec<Arc<Meta>>,
    /// The kinds that can be in a namespace and be deleted, with what the API listed of them, where it was asked.
    pub kinds: Vec<(Resource, Option<Vec<Value>>)>,
    /// What went wrong last time.
    pub failure: Option<Failure>,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// Only what leaves a namespace that is ending is of interest.
pub(super) fn keys(change: &MetaChange, caches: &Caches) -> Vec<Key> {
    let left = match (&change.old, &change.new) {
        (Some(old), None) => old,
        _ => return Vec::new(),
    };
    let namespace = &left.target.key.namespace;
    let ending = caches
        .of::<Namespace>()
        .named("", namespace)
        .is_some_and(|n| n.metadata.deletion_timestamp.is_some());
    ending
        .then(|| Key::cluster(namespace.clone()))
        .into_iter()
        .collect()
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let namespace = look.caches.of::<Namespace>().get(look.key)?;
    let ending = namespace.metadata.deletion_timestamp.is_some();
    let name = &look.key.name;
    let listed = |resource: &Resource| {
        let question = Question::List {
            resource: resource.clone(),
            namespace: name.clone(),
        };
        match look.answers.get(&question)? {
            Answer::Items(items) => Some(items.clone()),
            _ => Some(Vec::new()),
        }
    };
    let catalog = look.caches.catalog();
    let kinds = catalog
        .iter()
        .filter(|d| ending && d.resource.namespaced && d.can("delete") && d.can("list"));
    Some(Observed {
        kinds: kinds
            .map(|d| (d.resource.clone(), listed(&d.resource)))
            .collect(),
        content: if ending {
            look.caches.meta.in_namespace(name)
        } else {
            Vec::new()
        },
        failure: look.failure.cloned(),
        now: look.now,
        namespace,
    })
}
