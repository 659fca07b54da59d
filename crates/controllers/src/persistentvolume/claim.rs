//! What becomes of a claim.

use control::plan::reference;
use control::{Action, EventType, Plan};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use volumes::matching::{self, For};
use volumes::{claim_class, claim_has_class, claim_phase, has_annotation, notes, volume_phase};

use super::observe::ClaimSeen;
use super::{plan, status, tell};

/// Decides about one claim.
pub(super) fn reconcile(o: &ClaimSeen) -> Plan {
    if has_annotation(&o.claim.metadata, notes::BIND_COMPLETED) {
        bound(o)
    } else if volumes::volume_name(&o.claim).is_empty() {
        any_volume(o)
    } else {
        named_volume(o)
    }
}

fn is_delayed(o: &ClaimSeen) -> bool {
    let mode = o
        .class
        .as_ref()
        .and_then(|c| c.volume_binding_mode.as_deref());
    mode == Some(notes::WAIT)
}

/// The claim takes what there is.
fn any_volume(o: &ClaimSeen) -> Plan {
    let delayed = is_delayed(o);
    let volumes = o.volumes.iter().map(|v| v.as_ref());
    if let Some(volume) = matching::find(&o.claim, volumes, For::Binder { delayed }) {
        return bind(&o.claim, volume);
    }
    if let (false, Some(class)) = (claim_has_class(&o.claim), &o.default_class) {
        let mut claim = (*o.claim).clone();
        claim.spec.get_or_insert_default().storage_class_name = Some(class.clone());
        let because = "it names no class, and there is a default one by now";
        return plan(vec![Action::update(&claim, None)], because);
    }
    let selected = has_annotation(&o.claim.metadata, notes::SELECTED_NODE);
    if delayed && !selected {
        let (reason, message) = match o.waiting_pods.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [one] => (
                "WaitForPodScheduled",
                format!("waiting for pod {one} to be scheduled"),
            ),
            all => (
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", all.join(",")),
            ),
        };
        return pending(o, EventType::Normal, reason, &message);
    }
    if claim_class(&o.claim).is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return pending(o, EventType::Normal, "FailedBinding", message);
    }
    provision(o)
}

/// Leaves the making of a volume to the provisioner that the class names.
fn provision(o: &ClaimSeen) -> Plan {
    let failed = |why: String| {
        let event = tell(&*o.claim, EventType::Warning, "ProvisioningFailed", &*why);
        plan(vec![event], why)
    };
    let Some(class) = &o.class else {
        let name = claim_class(&o.claim);
        return failed(format!("storageclass.storage.k8s.io \"{name}\" not found"));
    };
    let provisioner = class.provisioner.as_str();
    if provisioner.starts_with("kubernetes.io/") {
        return failed(format!("no volume plugin matched name: {provisioner}"));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    let mut actions = Vec::new();
    if volumes::annotation(&o.claim.metadata, notes::PROVISIONER) != Some(provisioner) {
        let mut claim = (*o.claim).clone();
        let annotations = claim.metadata.annotations.get_or_insert_default();
        for key in [notes::PROVISIONER, notes::PROVISIONER_BETA] {
            annotations.insert(key.to_owned(), provisioner.to_owned());
        }
        actions.push(Action::update(&claim, None));
    }
    let event = tell(
        &*o.claim,
        EventType::Normal,
        "ExternalProvisioning",
        &*message,
    );
    actions.push(event);
    plan(actions, message)
}

/// Tells what is waited for, and that the claim is pending.
fn pending(o: &ClaimSeen, event_type: EventType, reason: &str, message: &str) -> Plan {
    let mut actions = vec![tell(&*o.claim, event_type, reason, message)];
    actions.extend(phase(&o.claim, "Pending", None).map(|claim| status(&claim)));
    plan(actions, message)
}

/// The claim names its volume, and is not bound yet.
fn named_volume(o: &ClaimSeen) -> Plan {
    let name = volumes::volume_name(&o.claim);
    let Some(volume) = o.volumes.first() else {
        let pending = phase(&o.claim, "Pending", None);
        let actions = pending.map(|claim| status(&claim)).into_iter().collect();
        return plan(actions, format!("the volume {name} is not there"));
    };
    let reserved = volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_some());
    if matching::is_bound_to(volume, &o.claim) {
        return bind(&o.claim, volume);
    }
    if reserved {
        let message = format!("volume \"{name}\" already bound to a different claim.");
        return pending(o, EventType::Warning, "FailedBinding", &message);
    }
    match matching::mismatch(volume, &o.claim) {
        None => bind(&o.claim, volume),
        Some(why) => {
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            pending(o, EventType::Warning, "VolumeMismatch", &message)
        }
    }
}

/// The claim was bound before.
fn bound(o: &ClaimSeen) -> Plan {
    let lost = |reason: &str, message: &str| {
        let Some(claim) = phase(&o.claim, "Lost", None).filter(|_| claim_phase(&o.claim) != "Lost")
        else {
            return Plan::idle(message);
        };
        let event = tell(&*o.claim, EventType::Warning, reason, message);
        plan(vec![status(&claim), event], message)
    };
    if volumes::volume_name(&o.claim).is_empty() {
        let message =
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    }
    let Some(volume) = o.volumes.first() else {
        let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    };
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    match reference {
        Some(reference) if reference.uid != o.claim.metadata.uid => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        _ => bind(&o.claim, volume),
    }
}

/// The next steps of a binding: the volume first, then the claim, then what both say about it.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let name = volume.metadata.name.clone().unwrap_or_default();
    if let Some(volume) = with_claim(volume, claim) {
        let because = format!("the volume {name} becomes this claim's");
        return plan(vec![Action::update(&volume, None)], because);
    }
    let mut actions = Vec::new();
    if volume_phase(volume) != "Bound" {
        actions.push(status(&with_phase(volume, "Bound")));
    }
    match with_volume(claim, &name) {
        Some(claim) => actions.push(Action::update(&claim, None)),
        None => {
            let bound = phase(claim, "Bound", Some(volume));
            actions.extend(bound.map(|claim| status(&claim)));
        }
    }
    if actions.is_empty() {
        return Plan::idle(format!("it is bound to {name}"));
    }
    plan(actions, format!("it is being bound to {name}"))
}

/// The volume with the claim in it, if it has not.
fn with_claim(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Option<PersistentVolume> {
    let there = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let full = there.is_some_and(|there| {
        there.name == claim.metadata.name
            && there.namespace == claim.metadata.namespace
            && there.uid == claim.metadata.uid
    });
    if full {
        return None;
    }
    let chosen_by_user = matching::is_bound_to(volume, claim);
    let mut volume = volume.clone();
    volume.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    if !chosen_by_user {
        let annotations = volume.metadata.annotations.get_or_insert_default();
        annotations
            .entry(notes::BOUND_BY_CONTROLLER.to_owned())
            .or_insert_with(|| "yes".to_owned());
    }
    Some(volume)
}

/// The claim with the volume in it, if it has not.
fn with_volume(claim: &PersistentVolumeClaim, name: &str) -> Option<PersistentVolumeClaim> {
    let named = volumes::volume_name(claim) == name;
    if named && has_annotation(&claim.metadata, notes::BIND_COMPLETED) {
        return None;
    }
    let mut claim = claim.clone();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    let mut note = |key: &str| {
        let slot = annotations.entry(key.to_owned());
        slot.or_insert_with(|| "yes".to_owned());
    };
    note(notes::BIND_COMPLETED);
    if !named {
        note(notes::BOUND_BY_CONTROLLER);
        claim.spec.get_or_insert_default().volume_name = Some(name.to_owned());
    }
    Some(claim)
}

/// The volume in this phase.
pub(super) fn with_phase(volume: &PersistentVolume, phase: &str) -> PersistentVolume {
    let mut volume = volume.clone();
    let status = volume.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = None;
    volume
}

/// The claim with the status of this phase, if it has another. What a bound claim says about its size is kept: it tells
/// how large the file system is, which may lag behind the volume.
fn phase(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<PersistentVolumeClaim> {
    let old = claim.status.clone().unwrap_or_default();
    let changes = old.phase.as_deref() != Some(phase);
    let mut new = PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        ..old.clone()
    };
    let spec = volume.and_then(|v| v.spec.as_ref());
    match spec {
        None => {
            new.access_modes = None;
            new.capacity = None;
            new.current_volume_attributes_class_name = None;
        }
        Some(spec) => {
            new.access_modes.clone_from(&spec.access_modes);
            if changes {
                new.capacity.clone_from(&spec.capacity);
                if old.phase.as_deref() == Some("Pending") {
                    let class = &spec.volume_attributes_class_name;
                    new.current_volume_attributes_class_name.clone_from(class);
                }
            }
        }
    }
    (new != old).then(|| PersistentVolumeClaim {
        status: Some(new),
        ..claim.clone()
    })
}
