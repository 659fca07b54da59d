//! The pod's claims against the node: bound volumes must be usable there, claims that wait must find a volume or a
//! provisioner.
//!
//! [`plan`] says what must happen to the claims once a node is chosen; the scheduler writes it down and waits for the
//! binder. Behaviour: `pkg/scheduler/framework/plugins/volumebinding`. The room that CSI drivers announce is not looked at.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use volumes::affinity::{self, Place};
use volumes::matching::{self, For};
use volumes::{claim_class, claim_phase, has_annotation, notes};

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::storage::{Taken, VolumePlan, key_of};

const CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const LOST: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// The plug-in `VolumeBinding`.
pub(super) struct VolumeBinding;

impl Filter for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter(&self, snapshot: &Snapshot, pod: &PodInfo) -> Option<String> {
        let mut unusable = pod
            .claims
            .iter()
            .filter_map(|(name, made)| usable(snapshot, pod, name, *made).err());
        if let Some(why) = unusable.next() {
            return Some(why);
        }
        let claims = pod.claims.iter();
        let mut claims = claims.filter_map(|(n, _)| snapshot.storage.claim(&pod.key.namespace, n));
        let immediate = |claim: &PersistentVolumeClaim| {
            let named = !volumes::volume_name(claim).is_empty();
            !is_bound(claim) && (named || !is_delayed(snapshot, claim))
        };
        claims.any(immediate).then(|| UNBOUND.to_owned())
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        match decide(snapshot, pod, node) {
            Ok(_) => Vec::new(),
            Err(reasons) => reasons,
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}

/// What must happen to the pod's claims before it can be bound to this node, which [`Filter::filter`] has let pass.
pub(crate) fn plan(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> VolumePlan {
    decide(snapshot, pod, node).unwrap_or_default()
}

/// Why a claim of the pod cannot be used at all.
fn usable(snapshot: &Snapshot, pod: &PodInfo, name: &str, made: bool) -> Result<(), String> {
    let namespace = &pod.key.namespace;
    let Some(claim) = snapshot.storage.claim(namespace, name) else {
        return Err(match made {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
            ),
            false => format!("persistentvolumeclaim \"{name}\" not found"),
        });
    };
    if claim_phase(claim) == "Lost" {
        let volume = volumes::volume_name(claim);
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.controller == Some(true));
    if made && !owners.any(|owner| owner.uid == pod.uid) {
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
            pod.key.name
        ));
    }
    Ok(())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volumes::volume_name(claim).is_empty()
        && has_annotation(&claim.metadata, notes::BIND_COMPLETED)
}

fn is_delayed(snapshot: &Snapshot, claim: &PersistentVolumeClaim) -> bool {
    let class = snapshot.storage.class(claim_class(claim));
    class.and_then(|c| c.volume_binding_mode.as_deref()) == Some(notes::WAIT)
}

fn place(node: &NodeInfo) -> Place<'_> {
    Place {
        name: &node.name,
        labels: &node.labels,
    }
}

fn decide(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Result<VolumePlan, Vec<String>> {
    let storage = &snapshot.storage;
    let claims = pod.claims.iter();
    let claims = claims.filter_map(|(name, _)| storage.claim(&pod.key.namespace, name));
    let (bound, mut waiting): (Vec<_>, Vec<_>) = claims.partition(|claim| is_bound(claim));
    let (mut conflict, mut lost) = (false, false);
    for claim in bound {
        match storage.volume(volumes::volume_name(claim)) {
            None => lost = true,
            Some(volume) => conflict |= !affinity::allows(volume, place(node)),
        }
    }
    // The smallest claim chooses first, so that the large volumes are left for those that need them.
    waiting.sort_by_key(|claim| volumes::requested(claim));
    let mut plan = VolumePlan::default();
    let mut taken = Taken::new();
    let mut unsatisfied = false;
    for claim in waiting {
        if let Some(selected) = volumes::annotation(&claim.metadata, notes::SELECTED_NODE) {
            // It is being provisioned for this node already, and for no other.
            unsatisfied |= selected != node.name;
            plan.provisions.push(claim.clone());
            continue;
        }
        let key = key_of(claim);
        if let Some(awaited) = storage.awaited_on(&key) {
            unsatisfied |= awaited != node.name;
            plan.provisions.push(claim.clone());
            continue;
        }
        let open: Vec<&PersistentVolume> = storage.open_volumes(&key).collect();
        let whom = For::Node(place(node), &taken);
        match matching::find(claim, open, whom).cloned() {
            Some(volume) => {
                taken.insert(volume.metadata.name.clone().unwrap_or_default());
                plan.bindings.push((claim.clone(), volume));
            }
            None if is_provisionable(snapshot, claim, node) => plan.provisions.push(claim.clone()),
            None => unsatisfied = true,
        }
    }
    let reasons = [(conflict, CONFLICT), (unsatisfied, NO_VOLUME), (lost, LOST)];
    let reasons = reasons.into_iter().filter(|(is_so, _)| *is_so);
    let reasons: Vec<String> = reasons.map(|(_, reason)| reason.to_owned()).collect();
    match reasons.is_empty() {
        true => Ok(plan),
        false => Err(reasons),
    }
}

/// Whether the class has a provisioner that makes volumes for this node.
fn is_provisionable(snapshot: &Snapshot, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
    let Some(class) = snapshot.storage.class(claim_class(claim)) else {
        return false;
    };
    !matches!(class.provisioner.as_str(), "" | notes::NO_PROVISIONER) && is_allowed(class, node)
}

fn is_allowed(class: &StorageClass, node: &NodeInfo) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let holds = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
        let mut expressions = term.match_label_expressions.iter().flatten();
        expressions.all(|e| {
            node.labels
                .get(&e.key)
                .is_some_and(|v| e.values.contains(v))
        })
    };
    terms.is_empty() || terms.iter().any(holds)
}
