//! A Deployment, its ReplicaSets, and whether pods of them are still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Caches, Change, Failure, Key, Look, Wake};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use machinery::labels::Selector;

use super::revision::replica_set_name;
use crate::ownership::{
    Claimant, controller_of, controller_uid, index_pods, keys_of_dependent, orphan_namespace,
    owner_lives,
};
use crate::pods;

/// Indexes of ReplicaSets, as for pods.
const BY_CONTROLLER: &str = "controller";
const ORPHANS: &str = "orphans";

/// All that a decision may depend on.
pub struct Observed {
    /// The Deployment.
    pub root: Arc<Deployment>,
    /// Its ReplicaSets and the orphans of the namespace, by name.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// Pods that have not ended, by UID of their ReplicaSet.
    pub running: BTreeMap<String, usize>,
    /// The ReplicaSet that has the name of the one that would be made now.
    pub namesake: Option<Arc<ReplicaSet>>,
    /// The live answer whether the Deployment may still adopt.
    pub owner_lives: Option<bool>,
    /// What went wrong last time.
    pub failure: Option<Failure>,
    /// The moment of the decision.
    pub now: Timestamp,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    index_pods(on);
    on.on_root::<Deployment>()
        .on::<ReplicaSet>(keys_of_dependent::<Deployment, ReplicaSet>)
        .on::<Pod>(keys_of_pod)
        .index::<ReplicaSet>(BY_CONTROLLER, controller_uid)
        .index::<ReplicaSet>(ORPHANS, orphan_namespace);
}

impl Claimant for Deployment {
    /// Selects nothing where it is not valid or empty.
    fn selector(&self) -> Selector {
        match Selector::from_label_selector(&self.spec.selector) {
            Ok(selector) if !selector.is_everything() => selector,
            _ => Selector::nothing(),
        }
    }
}

/// Only a Deployment that recreates waits for pods to end.
fn keys_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    let pod = change.latest();
    let ended = change.is_deletion() || pods::is_terminal(pod);
    let Some(owner) = controller_of(&pod.metadata).filter(|_| ended) else {
        return Vec::new();
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let set = caches.of::<ReplicaSet>().named(namespace, &owner.name);
    let Some(set) = set.filter(|s| s.metadata.uid.as_ref() == Some(&owner.uid)) else {
        return Vec::new();
    };
    let Some(owner) = controller_of(&set.metadata) else {
        return Vec::new();
    };
    let deployment = caches.of::<Deployment>().named(namespace, &owner.name);
    let recreates = deployment.filter(|d| recreates(d));
    recreates.map(|d| Key::of(d.as_ref())).into_iter().collect()
}

/// Whether the old pods go before new ones come.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let root = look.caches.of::<Deployment>().get(look.key)?;
    let sets = look.caches.of::<ReplicaSet>();
    let uid = root.metadata.uid.as_deref().unwrap_or_default();
    let mut replica_sets = sets.indexed(BY_CONTROLLER, uid);
    replica_sets.extend(sets.indexed(ORPHANS, &look.key.namespace));
    let mut running = BTreeMap::new();
    if recreates(&root) {
        for uid in replica_sets.iter().filter_map(|s| s.metadata.uid.clone()) {
            let pods = look.caches.of::<Pod>().indexed(pods::BY_CONTROLLER, &uid);
            let count = pods.iter().filter(|p| !pods::is_terminal(p)).count();
            running.insert(uid, count);
        }
    }
    let name = replica_set_name(&root);
    Some(Observed {
        namesake: sets.named(&look.key.namespace, &name),
        replica_sets,
        running,
        owner_lives: owner_lives(root.as_ref(), look.answers),
        failure: look.failure.cloned(),
        now: look.now,
        root,
    })
}
