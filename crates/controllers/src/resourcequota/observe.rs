//! One quota, and what the objects of its namespace use of what it limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::quota::{self, Amounts, Counted, Item};
use control::{Caches, Change, Key, Kind, Look, MetaChange, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};

/// All that a decision may depend on.
pub struct Observed {
    /// The quota.
    pub quota: Arc<ResourceQuota>,
    /// What is used, for each resource of `spec.hard` that can be counted.
    pub used: Amounts,
    /// Since when less has been used than the status says.
    pub since: Option<Timestamp>,
    /// The moment of the decision.
    pub now: Timestamp,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on_root::<ResourceQuota>()
        .on::<Pod>(|change, caches| {
            let measured = |pod: &Pod| Item::Pod(Box::new(pod.clone()));
            quotas_of(change, caches, "pods", measured)
        })
        .on::<Service>(|change, caches| {
            let measured = |service: &Service| Item::Service(Box::new(service.clone()));
            quotas_of(change, caches, "services", measured)
        })
        .on::<PersistentVolumeClaim>(|change, caches| {
            let measured = |claim: &PersistentVolumeClaim| Item::Claim(Box::new(claim.clone()));
            quotas_of(change, caches, "persistentvolumeclaims", measured)
        })
        .on_meta(quotas_of_object);
}

/// The quotas that a measured object concerns: all when it uses more or less than before, else those that have begun or
/// ceased to count it.
pub(super) fn quotas_of<K: Kind>(
    change: &Change<K>,
    caches: &Caches,
    resource: &str,
    item: fn(&K) -> Item,
) -> Vec<Key> {
    let namespace = change
        .latest()
        .metadata()
        .namespace
        .as_deref()
        .unwrap_or_default();
    let quotas = caches.of::<ResourceQuota>().in_namespace(namespace);
    let Some(counted) = Counted::new("", resource).filter(|_| !quotas.is_empty()) else {
        return Vec::new();
    };
    let [old, new] = [&change.old, &change.new].map(|object| object.as_deref().map(item));
    // Only a pod's own end counts here, not that it is overdue.
    let usage = |item: &Item| counted.usage(item, Timestamp::MIN);
    let is_same = old.as_ref().map(usage) == new.as_ref().map(usage);
    let covers = |quota: &ResourceQuota, item: &Option<Item>| {
        let hard = quota::amounts(quota.spec.as_ref().and_then(|s| s.hard.as_ref()));
        let covered = |item: &Item| counted.is_covered(item, quota, &hard);
        item.as_ref().is_some_and(covered)
    };
    quotas
        .iter()
        .filter(|quota| !is_same || covers(quota, &old) != covers(quota, &new))
        .map(|quota| Key::of(quota.as_ref()))
        .collect()
}

/// The quotas that count an object which came or went.
fn quotas_of_object(change: &MetaChange, caches: &Caches) -> Vec<Key> {
    let (Some(meta), true) = (
        change.new.as_ref().or(change.old.as_ref()),
        change.new.is_none() || change.old.is_none(),
    ) else {
        return Vec::new();
    };
    let (resource, key) = (&meta.target.resource, &meta.target.key);
    if key.namespace.is_empty() {
        return Vec::new();
    }
    let Some(counted) = Counted::new(&resource.group, &resource.plural) else {
        return Vec::new();
    };
    let quotas = caches.of::<ResourceQuota>().in_namespace(&key.namespace);
    let limits = |quota: &Arc<ResourceQuota>| {
        let hard = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
        hard.is_some_and(|hard| hard.keys().any(|name| counted.measures(name)))
    };
    quotas
        .iter()
        .filter(|q| limits(q))
        .map(|q| Key::of(q.as_ref()))
        .collect()
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let quota = look.caches.of::<ResourceQuota>().get(look.key)?;
    let hard = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
    let hard = quota::amounts(hard);
    let counted: BTreeSet<Counted> = hard.keys().filter_map(|name| Counted::by(name)).collect();
    let mut used = Amounts::new();
    for counted in &counted {
        let limited = hard.keys().filter(|name| counted.measures(name));
        used.extend(limited.map(|name| (name.clone(), quota::whole(0))));
        for item in items(look.caches, &look.key.namespace, counted) {
            if !counted.is_covered(&item, &quota, &hard) {
                continue;
            }
            let mut usage = counted.usage(&item, look.now);
            usage.retain(|name, _| hard.contains_key(name));
            quota::add(&mut used, &usage);
        }
    }
    Some(Observed {
        quota,
        used,
        since: look.since,
        now: look.now,
    })
}

/// All objects of a resource in a namespace.
fn items(caches: &Caches, namespace: &str, counted: &Counted) -> Vec<Item> {
    fn all<K: Kind>(caches: &Caches, namespace: &str, item: fn(K) -> Item) -> Vec<Item> {
        let objects = caches.of::<K>().in_namespace(namespace).into_iter();
        objects
            .map(|object| item(object.as_ref().clone()))
            .collect()
    }
    match (counted.group(), counted.resource()) {
        ("", "pods") => all::<Pod>(caches, namespace, |pod| Item::Pod(Box::new(pod))),
        ("", "services") => all::<Service>(caches, namespace, |s| Item::Service(Box::new(s))),
        ("", "persistentvolumeclaims") => {
            all::<PersistentVolumeClaim>(caches, namespace, |c| Item::Claim(Box::new(c)))
        }
        (group, resource) => {
            let objects = caches.meta.in_namespace(namespace).into_iter();
            let same = objects.filter(|meta| {
                meta.target.resource.group == group && meta.target.resource.plural == resource
            });
            same.map(|_| Item::Other).collect()
        }
    }
}
