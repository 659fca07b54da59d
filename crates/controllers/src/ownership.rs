//! Controller references: who owns an object, taking orphans in and letting strangers go.
//!
//! Behaviour: `pkg/controller/controller_ref_manager.go`.

use std::sync::Arc;

use control::{Action, Answer, Answers, Caches, Change, Key, Kind, Plan, Question, Target};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use machinery::labels::Selector;
use serde_json::json;

/// The reference to the managing controller, if there is one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}

/// UID of the managing controller, as an index value.
pub fn controller_uid<K: Kind>(object: &K) -> Vec<String> {
    let controller = controller_of(object.metadata());
    controller.map(|c| c.uid.clone()).into_iter().collect()
}

/// Namespace of an object without controller, as an index value.
pub fn orphan_namespace<K: Kind>(object: &K) -> Vec<String> {
    let meta = object.metadata();
    match controller_of(meta) {
        Some(_) => Vec::new(),
        None => meta.namespace.clone().into_iter().collect(),
    }
}

/// The reference that makes `owner` the controller.
pub fn controller_reference<K: Kind>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// An owner that takes in what matches its selector.
pub trait Claimant: Kind {
    /// Which objects belong to it; nothing when the selector is not valid.
    fn selector(&self) -> Selector;
}

/// The owners that a change of an object concerns: its controllers before and after, or all that could adopt it.
pub fn keys_of_dependent<O: Claimant, K: Kind>(change: &Change<K>, caches: &Caches) -> Vec<Key> {
    let mut keys = Vec::new();
    for object in change.sides() {
        let meta = object.metadata();
        let namespace = meta.namespace.clone().unwrap_or_default();
        if let Some(owner) = controller_of(meta) {
            if owner.kind == O::KIND && owner.api_version == O::API_VERSION {
                keys.push(Key::new(namespace, owner.name.clone()));
            }
        } else if !change.is_deletion() {
            let owners = caches.of::<O>().in_namespace(&namespace);
            let takers = owners
                .iter()
                .filter(|o| o.selector().matches_map(meta.labels.as_ref()));
            keys.extend(takers.map(|o| Key::of(o.as_ref())));
        }
    }
    keys.dedup();
    keys
}

/// What became of the candidates.
pub struct Claim<K> {
    /// Those that belong to the owner, the adopted ones included.
    pub claimed: Vec<Arc<K>>,
    /// Patches that adopt and release.
    pub actions: Vec<Action>,
    /// There are orphans to adopt, but the owner must first be looked at live.
    pub unconfirmed: bool,
}

/// Sorts out which of the candidates (owned objects and orphans of the namespace) the owner claims.
pub fn claim<O: Kind, K: Kind>(
    owner: &O,
    selector: &Selector,
    candidates: &[Arc<K>],
    owner_lives: Option<bool>,
) -> Claim<K> {
    claim_with(owner, selector, candidates, owner_lives, None)
}

/// The same for an owner that puts a finalizer on what it adopts.
pub fn claim_with<O: Kind, K: Kind>(
    owner: &O,
    selector: &Selector,
    candidates: &[Arc<K>],
    owner_lives: Option<bool>,
    finalizer: Option<&str>,
) -> Claim<K> {
    let mut claim = Claim {
        claimed: Vec::new(),
        actions: Vec::new(),
        unconfirmed: false,
    };
    let meta = owner.metadata();
    let deleting = meta.deletion_timestamp.is_some();
    for candidate in candidates {
        let theirs = candidate.metadata();
        let matches = selector.matches_map(theirs.labels.as_ref());
        match controller_of(theirs) {
            Some(controller) if Some(&controller.uid) != meta.uid.as_ref() => {}
            Some(_) if matches => claim.claimed.push(Arc::clone(candidate)),
            Some(_) if deleting => {}
            Some(_) => claim.actions.push(release(owner, candidate.as_ref())),
            None if deleting || !matches || theirs.deletion_timestamp.is_some() => {}
            None if theirs.namespace != meta.namespace => {}
            None => match owner_lives {
                None => claim.unconfirmed = true,
                Some(false) => {}
                Some(true) => {
                    let adoption = adopt(owner, candidate.as_ref(), finalizer);
                    claim.actions.push(adoption);
                    claim.claimed.push(Arc::clone(candidate));
                }
            },
        }
    }
    claim
}

/// What an owner claims once nothing is left to adopt or to let go.
///
/// # Errors
/// The plan that has to be carried out first. `what` names the candidates in its reason.
pub fn settled_claim<O: Claimant, K: Kind>(
    owner: &O,
    candidates: &[Arc<K>],
    owner_lives: Option<bool>,
    finalizer: Option<&str>,
    what: &str,
) -> Result<Vec<Arc<K>>, Box<Plan>> {
    let selector = owner.selector();
    let claim = claim_with(owner, &selector, candidates, owner_lives, finalizer);
    if !claim.unconfirmed && claim.actions.is_empty() {
        return Ok(claim.claimed);
    }
    let mut plan = Plan::idle(format!("adopting or releasing {what}"));
    plan.actions = claim.actions;
    if claim.unconfirmed {
        plan.actions = vec![ask_owner(owner)];
        plan.because = format!("there are {what} to adopt, the owner is looked at live first");
    }
    Err(Box::new(plan))
}

/// The question whether the owner still exists and is not being deleted, asked past the cache before adoption.
pub fn ask_owner<O: Kind>(owner: &O) -> Action {
    Action::Confirm(Question::Get(Target::of(owner)))
}

/// The answer to [`ask_owner`], if it has come.
pub fn owner_lives<O: Kind>(owner: &O, answers: &Answers) -> Option<bool> {
    let answer = answers.get(&Question::Get(Target::of(owner)))?;
    let uid = owner.metadata().uid.as_deref();
    Some(match answer {
        Answer::Present(live) => {
            let meta = &live["metadata"];
            meta["uid"].as_str() == uid && meta["deletionTimestamp"].is_null()
        }
        _ => false,
    })
}

fn adopt<O: Kind, K: Kind>(owner: &O, object: &K, finalizer: Option<&str>) -> Action {
    let mut owners = object
        .metadata()
        .owner_references
        .clone()
        .unwrap_or_default();
    owners.push(controller_reference(owner));
    let mut finalizers = object.metadata().finalizers.clone().unwrap_or_default();
    match finalizer {
        Some(finalizer) if !finalizers.iter().any(|f| f == finalizer) => {
            finalizers.push(finalizer.to_owned());
            set_owners(object, &owners, Some(finalizers))
        }
        _ => set_owners(object, &owners, None),
    }
}

fn release<O: Kind, K: Kind>(owner: &O, object: &K) -> Action {
    let uid = owner.metadata().uid.as_deref();
    let mut owners = object
        .metadata()
        .owner_references
        .clone()
        .unwrap_or_default();
    owners.retain(|o| Some(o.uid.as_str()) != uid);
    set_owners(object, &owners, None)
}

fn set_owners<K: Kind>(
    object: &K,
    owners: &[OwnerReference],
    finalizers: Option<Vec<String>>,
) -> Action {
    let meta = object.metadata();
    let mut patch = json!({ "metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": owners,
    }});
    if let Some(finalizers) = finalizers {
        patch["metadata"]["finalizers"] = finalizers.into();
    }
    Action::merge(object, patch, None)
}

/// Declares the pod indexes that [`owned_and_orphans`] reads.
pub fn index_pods(on: &mut control::Wake<'_>) {
    on.index::<Pod>(crate::pods::BY_CONTROLLER, controller_uid)
        .index::<Pod>(crate::pods::ORPHANS, orphan_namespace);
}

/// The pods that the owner controls, and the orphans of its namespace.
pub fn owned_and_orphans<O: Kind>(caches: &control::Caches, owner: &O) -> Vec<Arc<Pod>> {
    let meta = owner.metadata();
    let store = caches.of::<Pod>();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let mut pods = store.indexed(crate::pods::BY_CONTROLLER, uid);
    pods.extend(store.indexed(crate::pods::ORPHANS, namespace));
    pods
}
