//! What the binder sees: a claim with all volumes and its class, or a volume with its claim.

use std::sync::Arc;

use control::{Answer, Caches, Change, Key, Look, Question, Target, Wake};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use volumes::{claim_class, notes};

use crate::pods;

/// Claims whose binding has not been completed.
const UNBOUND: &str = "unbound";
/// Claims by the volume they name.
const BY_VOLUME: &str = "volume";
/// Volumes by the claim they are reserved for.
const BY_CLAIM: &str = "claim";
/// Pods by the claims they use.
const PODS_BY_CLAIM: &str = "claims";

/// All that a decision may depend on.
pub enum Observed {
    /// A claim.
    Claim(Box<ClaimSeen>),
    /// A volume.
    Volume(Box<VolumeSeen>),
}

/// A claim and its surroundings.
pub struct ClaimSeen {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// All volumes while it is not bound; afterwards the one it names.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// The class it names.
    pub class: Option<Arc<StorageClass>>,
    /// The class for claims that name none.
    pub default_class: Option<String>,
    /// Names of the pods that use it and have no node yet.
    pub waiting_pods: Vec<String>,
}

/// A volume and its claim.
pub struct VolumeSeen {
    /// The volume.
    pub volume: Arc<PersistentVolume>,
    /// The claim of the name that it is reserved for.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// What the API says about that claim, once asked: its UID if it is there.
    pub live_claim: Option<Option<String>>,
}

fn claim_key_of(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let namespace = reference.namespace.clone().unwrap_or_default();
    Some(Key::new(
        namespace,
        reference.name.clone().unwrap_or_default(),
    ))
}

fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    !volumes::has_annotation(&claim.metadata, notes::BIND_COMPLETED)
}

/// The index values of the claims that a pod uses.
pub(crate) fn claims_of_pod(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims = volumes::claims_of(pod).into_iter();
    claims
        .map(|(name, _)| Key::new(namespace.clone(), name).to_string())
        .collect()
}

/// Makes pods be found by the claims they use.
pub(crate) fn index_pods(on: &mut Wake<'_>) {
    on.index::<Pod>(PODS_BY_CLAIM, claims_of_pod);
}

/// The pods that use a claim.
pub(crate) fn pods_of_claim(caches: &Caches, claim: &Key) -> Vec<Arc<Pod>> {
    caches
        .of::<Pod>()
        .indexed(PODS_BY_CLAIM, &claim.to_string())
}

/// The items of the claims that a change of a pod concerns.
pub(crate) fn claim_keys_of_pod(change: &Change<Pod>) -> Vec<Key> {
    let pod = change.latest();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims = volumes::claims_of(pod).into_iter();
    claims
        .map(|(name, _)| Key::new(namespace.clone(), name))
        .collect()
}

pub(super) fn wake(on: &mut Wake<'_>) {
    index_pods(on);
    on.index::<PersistentVolumeClaim>(UNBOUND, |claim| {
        is_unbound(claim)
            .then(|| UNBOUND.to_owned())
            .into_iter()
            .collect()
    })
    .index::<PersistentVolumeClaim>(BY_VOLUME, |claim| {
        vec![volumes::volume_name(claim).to_owned()]
    })
    .index::<PersistentVolume>(BY_CLAIM, |volume| {
        let key = claim_key_of(volume).map(|key| key.to_string());
        key.into_iter().collect()
    })
    .on::<PersistentVolumeClaim>(keys_of_claim)
    .on::<PersistentVolume>(keys_of_volume)
    .on::<StorageClass>(|_, caches| unbound(caches))
    .on::<Pod>(|change, _| {
        // Only the news that a pod waits for a claim is of interest here.
        let waits = change.old.is_none() && pods::node_name(change.latest()).is_empty();
        if waits {
            claim_keys_of_pod(change)
        } else {
            Vec::new()
        }
    });
}

fn unbound(caches: &Caches) -> Vec<Key> {
    let claims = caches
        .of::<PersistentVolumeClaim>()
        .indexed(UNBOUND, UNBOUND);
    claims.iter().map(|claim| Key::of(claim.as_ref())).collect()
}

/// A claim concerns itself, the volumes it names and those that are reserved for it.
fn keys_of_claim(change: &Change<PersistentVolumeClaim>, caches: &Caches) -> Vec<Key> {
    let own = Key::of(change.latest());
    let named = change.sides().map(volumes::volume_name);
    let mut keys: Vec<Key> = named.filter(|n| !n.is_empty()).map(Key::cluster).collect();
    let reserved = caches
        .of::<PersistentVolume>()
        .indexed(BY_CLAIM, &own.to_string());
    keys.extend(reserved.iter().map(|volume| Key::of(volume.as_ref())));
    keys.push(own);
    keys.sort();
    keys.dedup();
    keys
}

/// A volume concerns itself, its claim, the claims that name it, and when it is free all that wait.
fn keys_of_volume(change: &Change<PersistentVolume>, caches: &Caches) -> Vec<Key> {
    let own = Key::of(change.latest());
    let mut keys: Vec<Key> = change.sides().filter_map(claim_key_of).collect();
    let naming = caches
        .of::<PersistentVolumeClaim>()
        .indexed(BY_VOLUME, &own.name);
    keys.extend(naming.iter().map(|claim| Key::of(claim.as_ref())));
    let is_free = change
        .new
        .as_ref()
        .is_some_and(|v| claim_key_of(v).is_none());
    if is_free {
        keys.extend(unbound(caches));
    }
    keys.push(own);
    keys.sort();
    keys.dedup();
    keys
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    if look.key.namespace.is_empty() {
        return observe_volume(look);
    }
    let caches = look.caches;
    let claim = caches.of::<PersistentVolumeClaim>().get(look.key)?;
    let store = caches.of::<PersistentVolume>();
    let named = volumes::volume_name(&claim);
    let volumes = match named {
        "" if is_unbound(&claim) => store.all(),
        "" => Vec::new(),
        name => store.named("", name).into_iter().collect(),
    };
    let classes = caches.of::<StorageClass>();
    let waiting = pods_of_claim(caches, look.key).into_iter();
    let waiting = waiting.filter(|p| !pods::is_terminal(p) && pods::node_name(p).is_empty());
    Some(Observed::Claim(Box::new(ClaimSeen {
        class: classes.named("", claim_class(&claim)),
        default_class: default_class(&classes.all()),
        waiting_pods: waiting.filter_map(|p| p.metadata.name.clone()).collect(),
        volumes,
        claim,
    })))
}

fn observe_volume(look: &Look<'_>) -> Option<Observed> {
    let volume = look.caches.of::<PersistentVolume>().get(look.key)?;
    let key = claim_key_of(&volume);
    let claims = look.caches.of::<PersistentVolumeClaim>();
    let answer = key
        .as_ref()
        .and_then(|key| look.answers.get(&question(key)));
    let live_claim = answer.map(|answer| match answer {
        Answer::Present(claim) => claim["metadata"]["uid"].as_str().map(str::to_owned),
        _ => None,
    });
    Some(Observed::Volume(Box::new(VolumeSeen {
        claim: key.and_then(|key| claims.get(&key)),
        live_claim,
        volume,
    })))
}

/// The question whether a claim is there.
pub(super) fn question(claim: &Key) -> Question {
    Question::Get(Target {
        resource: control::Resource::of::<PersistentVolumeClaim>(),
        key: claim.clone(),
    })
}

/// The claim that a volume is reserved for.
pub(super) fn reserved_for(volume: &PersistentVolume) -> Option<Key> {
    claim_key_of(volume)
}

/// The newest class that says it is the default, of the same age the first by name.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<String> {
    let is_default = |class: &&Arc<StorageClass>| {
        [notes::DEFAULT_CLASS, notes::DEFAULT_CLASS_BETA]
            .iter()
            .any(|key| volumes::annotation(&class.metadata, key) == Some("true"))
    };
    let rank = |class: &&Arc<StorageClass>| {
        let created = class.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (std::cmp::Reverse(created), class.metadata.name.clone())
    };
    let newest = classes.iter().filter(is_default).min_by_key(rank);
    newest.and_then(|class| class.metadata.name.clone())
}
