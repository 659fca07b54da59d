//! Claims, volumes and classes as the scheduler knows them, its own decisions included.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};

use crate::pod::PodKey;

/// Namespace and name of a claim.
pub type ClaimKey = (String, String);

/// All storage of the cluster.
///
/// Invariant: what a decision promised stands until the pod is bound or given up, or a newer state of the object is seen.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    claims: HashMap<ClaimKey, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    csi_nodes: HashMap<String, Arc<CSINode>>,
    /// Volumes that a decision has given to a claim, with the pod it was for.
    promised: HashMap<String, (PodKey, ClaimKey)>,
    /// Claims that a decision wants provisioned on a node, with the pod it was for.
    awaited: HashMap<ClaimKey, (PodKey, String)>,
}

impl Storage {
    /// Takes in (or, with `None`, forgets) a claim.
    pub fn set_claim(&mut self, key: ClaimKey, claim: Option<Arc<PersistentVolumeClaim>>) {
        set(&mut self.claims, key, claim);
    }

    /// Takes in (or, with `None`, forgets) a volume.
    pub fn set_volume(&mut self, name: &str, volume: Option<Arc<PersistentVolume>>) {
        let taken = volume.as_ref().is_some_and(|v| {
            let spec = v.spec.as_ref();
            spec.is_some_and(|s| s.claim_ref.is_some())
        });
        if taken {
            self.promised.remove(name);
        }
        match volume {
            Some(volume) => drop(self.volumes.insert(name.to_owned(), volume)),
            None => drop(self.volumes.remove(name)),
        }
    }

    /// Takes in (or, with `None`, forgets) a class.
    pub fn set_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        match class {
            Some(class) => drop(self.classes.insert(name.to_owned(), class)),
            None => drop(self.classes.remove(name)),
        }
    }

    /// Takes in (or, with `None`, forgets) what CSI drivers say of a node.
    pub fn set_csi_node(&mut self, name: &str, node: Option<Arc<CSINode>>) {
        set(&mut self.csi_nodes, name.to_owned(), node);
    }

    /// A claim.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&PersistentVolumeClaim> {
        let key = (namespace.to_owned(), name.to_owned());
        self.claims.get(&key).map(AsRef::as_ref)
    }

    /// A volume.
    pub fn volume(&self, name: &str) -> Option<&PersistentVolume> {
        self.volumes.get(name).map(AsRef::as_ref)
    }

    /// A class.
    pub fn class(&self, name: &str) -> Option<&StorageClass> {
        self.classes.get(name).map(AsRef::as_ref)
    }

    /// What CSI drivers say of a node.
    pub(crate) fn csi_node(&self, name: &str) -> Option<&CSINode> {
        self.csi_nodes.get(name).map(AsRef::as_ref)
    }

    /// Volumes that no decision has given to another claim.
    pub(crate) fn open_volumes<'a>(
        &'a self,
        claim: &'a ClaimKey,
    ) -> impl Iterator<Item = &'a PersistentVolume> {
        let open = move |name: &String| {
            let promised = self.promised.get(name);
            promised.is_none_or(|(_, other)| other == claim)
        };
        let volumes = self.volumes.iter().filter(move |(name, _)| open(name));
        volumes.map(|(_, volume)| volume.as_ref())
    }

    /// The node on which a decision wants a claim provisioned.
    pub(crate) fn awaited_on(&self, claim: &ClaimKey) -> Option<&str> {
        self.awaited.get(claim).map(|(_, node)| node.as_str())
    }

    /// Notes what a decision promised.
    pub fn promise(&mut self, pod: &PodKey, node: &str, plan: &VolumePlan) {
        for (claim, volume) in &plan.bindings {
            let name = volume.metadata.name.clone().unwrap_or_default();
            self.promised.insert(name, (pod.clone(), key_of(claim)));
        }
        for claim in &plan.provisions {
            let awaited = (pod.clone(), node.to_owned());
            self.awaited.insert(key_of(claim), awaited);
        }
    }

    /// Forgets what was promised for a pod: it is bound, or given up.
    pub fn settle(&mut self, pod: &PodKey) {
        self.promised.retain(|_, (whose, _)| whose != pod);
        self.awaited.retain(|_, (whose, _)| whose != pod);
    }
}

fn set<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// The key of a claim.
pub fn key_of(claim: &PersistentVolumeClaim) -> ClaimKey {
    let meta = &claim.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// What must happen to a pod's claims before it can be bound to its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumePlan {
    /// Claims and the volumes that are there for them.
    pub bindings: Vec<(PersistentVolumeClaim, PersistentVolume)>,
    /// Claims that a provisioner must make volumes for, on the node.
    pub provisions: Vec<PersistentVolumeClaim>,
}

impl VolumePlan {
    /// Nothing has to happen.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// Names that have been given away within one plan.
pub(crate) type Taken = BTreeSet<String>;
