//! One object, its owners, its dependents.

use std::sync::Arc;

use control::caches::Discovered;
use control::{Answer, Caches, Key, Look, Meta, MetaChange, Question, Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::ORPHAN;

/// All that a decision may depend on.
pub struct Observed {
    /// The object.
    pub item: Arc<Meta>,
    /// Its owner references, and what is known about each owner.
    pub owners: Vec<(OwnerReference, OwnerState)>,
    /// The objects that name it as owner.
    pub dependents: Vec<Arc<Meta>>,
}

/// What is known about an owner.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnerState {
    /// It exists.
    Solid,
    /// It exists and waits for its dependents to go.
    WaitsForDependents,
    /// The watch has told its end, or the API says that it does not exist.
    Gone,
    /// It is not in the cache; the API has to be asked.
    Unconfirmed(Target),
    /// It is there, but in another namespace.
    Elsewhere,
    /// No such kind, or no such owner is possible: nothing can be said, so nothing is done.
    Unknown,
}

/// The items that a change concerns.
pub(super) fn keys(change: &MetaChange, caches: &Caches) -> Vec<Key> {
    let mut uids: Vec<String> = Vec::new();
    let latest = change.new.as_ref().or(change.old.as_ref());
    let Some(latest) = latest else {
        return Vec::new();
    };
    let owners_of = |meta: &Option<Arc<Meta>>| meta.as_ref().map(|m| m.owners.clone());
    let dependents = || {
        let dependents = caches.meta.dependents(&latest.uid);
        dependents.into_iter().map(|d| d.uid.clone())
    };
    match (&change.old, &change.new) {
        // Another object of this name: the former one is gone.
        (Some(old), Some(new)) if old.uid != new.uid => {
            let orphans = caches.meta.dependents(&old.uid);
            uids.extend(orphans.into_iter().map(|d| d.uid.clone()));
            uids.push(new.uid.clone());
            uids.extend(waiting_owners(old, caches));
        }
        (old, Some(new)) => {
            let before = owners_of(old).unwrap_or_default();
            let finalizes =
                new.deleting && (new.waits_for_dependents() || new.has_finalizer(ORPHAN));
            if finalizes || (!new.owners.is_empty() && new.owners != before) {
                uids.push(new.uid.clone());
            }
            let waited = old.as_ref().is_some_and(|o| o.waits_for_dependents());
            if new.waits_for_dependents() && !waited {
                uids.extend(dependents());
            }
            if let Some(old) = old.as_ref().filter(|_| new.owners != before) {
                uids.extend(waiting_owners(old, caches));
            }
        }
        (Some(old), None) => {
            uids.extend(dependents());
            uids.extend(waiting_owners(old, caches));
        }
        (None, None) => {}
    }
    uids.into_iter().map(Key::cluster).collect()
}

/// Owners whose deletion waits for this object.
fn waiting_owners(meta: &Meta, caches: &Caches) -> Vec<String> {
    let owners = meta.owners.iter();
    let known = owners.filter_map(|o| caches.meta.by_uid(&o.uid));
    let waiting = known.filter(|o| o.waits_for_dependents());
    waiting.map(|o| o.uid.clone()).collect()
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let item = look.caches.meta.by_uid(&look.key.name)?;
    let catalog = look.caches.catalog();
    let owners = item.owners.iter().map(|owner| {
        let state = state(look, &catalog, &item, owner);
        (owner.clone(), state)
    });
    Some(Observed {
        owners: owners.collect(),
        dependents: look.caches.meta.dependents(&item.uid),
        item,
    })
}

fn state(
    look: &Look<'_>,
    catalog: &[Discovered],
    item: &Meta,
    owner: &OwnerReference,
) -> OwnerState {
    let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
    let found = catalog
        .iter()
        .find(|d| d.resource.group == group && d.resource.kind == owner.kind);
    let Some(found) = found else {
        return OwnerState::Unknown;
    };
    let here = item.target.key.namespace.as_str();
    let possible = control::resource::is_path_segment(&owner.name);
    if !possible || (found.resource.namespaced && here.is_empty()) {
        return OwnerState::Unknown;
    }
    let namespace = if found.resource.namespaced { here } else { "" };
    let target = Target {
        resource: found.resource.clone(),
        key: Key::new(namespace, owner.name.clone()),
    };
    let cached = look.caches.meta.by_uid(&owner.uid);
    if let Some(cached) = &cached {
        let same_kind = cached.target.resource.same_resource(&target.resource);
        if same_kind && cached.target.key == target.key {
            return if cached.waits_for_dependents() {
                OwnerState::WaitsForDependents
            } else {
                OwnerState::Solid
            };
        }
    }
    if look.caches.meta.is_gone(&owner.uid) {
        return OwnerState::Gone;
    }
    match look.answers.get(&Question::Get(target.clone())) {
        None => OwnerState::Unconfirmed(target),
        Some(Answer::Present(live)) if live["metadata"]["uid"] == owner.uid.as_str() => {
            let meta = &live["metadata"];
            let finalizers = meta["finalizers"].as_array();
            let waits = finalizers.is_some_and(|f| f.iter().any(|f| f == super::FOREGROUND));
            if waits && meta["deletionTimestamp"].is_string() {
                OwnerState::WaitsForDependents
            } else {
                OwnerState::Solid
            }
        }
        Some(_) if cached.is_some_and(|c| c.target.key.namespace != namespace) => {
            OwnerState::Elsewhere
        }
        Some(_) => OwnerState::Gone,
    }
}
