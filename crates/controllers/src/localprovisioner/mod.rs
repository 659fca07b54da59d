//! The provisioner of local storage: directories on the node where the first pod runs.
//!
//! - It makes and deletes objects only. The node's kubelet makes the directory when a pod first uses the volume, and
//!   removes it, and then our finalizer, when the volume is to go.
//! - The directory's name is the volume's, made of the claim's UID: no name that a user chose is ever part of a path, and
//!   classes have no parameters.
//! - With a node, its data is gone: the finalizer is taken off here.
//!
//! Items are claims (`namespace/name`) and volumes (`name`).

mod claim;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Caches, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use volumes::{annotation, local, notes};

/// The provisioner of local storage.
pub struct LocalProvisioner;

/// All that a decision may depend on.
pub enum Observed {
    /// A claim that we are to make a volume for.
    Claim(Box<ClaimSeen>),
    /// A volume of ours, and whether its node is there.
    Volume(Arc<PersistentVolume>, bool),
}

/// A claim and its surroundings.
pub struct ClaimSeen {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// Its class.
    pub class: Arc<StorageClass>,
    /// The volume of the name that we would give.
    pub volume: Option<Arc<PersistentVolume>>,
    /// Nodes that could hold the data, by name.
    pub nodes: Vec<Arc<Node>>,
}

impl Reconciler for LocalProvisioner {
    type Observed = Observed;

    const NAME: &'static str = "local-volume-provisioner";

    fn wake(on: &mut Wake<'_>) {
        on.on::<PersistentVolumeClaim>(|change, _| {
            let claim = change.latest();
            is_for_us(claim)
                .then(|| Key::of(claim))
                .into_iter()
                .collect()
        })
        .on::<PersistentVolume>(|change, _| {
            let volume = change.latest();
            let ours = local::node_of(volume).is_some();
            ours.then(|| Key::of(volume)).into_iter().collect()
        })
        .on::<Node>(|change, caches| {
            let name = change.latest().metadata.name.clone().unwrap_or_default();
            match (&change.old, &change.new) {
                (Some(_), None) => volumes_of(caches, &name),
                (None, Some(_)) => waiting(caches),
                _ => Vec::new(),
            }
        })
        .reads::<StorageClass>();
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let (caches, key) = (look.caches, look.key);
        let volumes = caches.of::<PersistentVolume>();
        let nodes = caches.of::<Node>();
        if key.namespace.is_empty() {
            let volume = volumes.get(key)?;
            let there = nodes.named("", local::node_of(&volume)?).is_some();
            return Some(Observed::Volume(volume, there));
        }
        let claim = caches.of::<PersistentVolumeClaim>().get(key)?;
        let class = volumes::claim_class(&claim);
        Some(Observed::Claim(Box::new(ClaimSeen {
            class: caches.of::<StorageClass>().named("", class)?,
            volume: volumes.named("", &claim::name_for(&claim)),
            nodes: nodes.all(),
            claim,
        })))
    }

    fn reconcile(o: &Observed) -> Plan {
        match o {
            Observed::Claim(seen) => claim::reconcile(seen),
            Observed::Volume(volume, node_is_there) => reclaim(volume, *node_is_there),
        }
    }
}

/// Whether the binder asks us for a volume.
fn is_for_us(claim: &PersistentVolumeClaim) -> bool {
    volumes::volume_name(claim).is_empty()
        && annotation(&claim.metadata, notes::PROVISIONER) == Some(local::PROVISIONER)
}

fn volumes_of(caches: &Caches, node: &str) -> Vec<Key> {
    let volumes = caches.of::<PersistentVolume>().all();
    let there = volumes.iter().filter(|v| local::node_of(v) == Some(node));
    there.map(|v| Key::of(v.as_ref())).collect()
}

fn waiting(caches: &Caches) -> Vec<Key> {
    let claims = caches.of::<PersistentVolumeClaim>().all();
    let waiting = claims.iter().filter(|claim| is_for_us(claim));
    waiting.map(|claim| Key::of(claim.as_ref())).collect()
}

/// A released volume is deleted; its data goes with it.
fn reclaim(volume: &PersistentVolume, node_is_there: bool) -> Plan {
    let plan = |action: Action, because: &str| Plan {
        actions: vec![action],
        because: because.to_owned(),
        ..Plan::default()
    };
    if volume.metadata.deletion_timestamp.is_none() {
        let released = volumes::volume_phase(volume) == "Released";
        return match released && local::data_goes_too(volume) {
            true => plan(Action::delete(volume, None), "its claim is gone"),
            false => Plan::idle("it is in use or to be retained"),
        };
    }
    if !local::is_to_be_removed(volume) {
        return Plan::idle("it is leaving, and others still hold it");
    }
    if node_is_there {
        return Plan::idle("its node removes the data");
    }
    let mut volume = volume.clone();
    volume.metadata.finalizers = None;
    plan(
        Action::update(&volume, None),
        "its node is gone, and the data with it",
    )
}
