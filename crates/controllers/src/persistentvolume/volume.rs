//! What becomes of a volume.

use control::{Action, EventType, Plan};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use volumes::matching;
use volumes::{annotation, has_annotation, notes, volume_phase};

use super::claim::with_phase;
use super::observe::{VolumeSeen, question, reserved_for};
use super::{plan, status, tell};

/// Decides about one volume.
pub(super) fn reconcile(o: &VolumeSeen) -> Plan {
    let volume = o.volume.as_ref();
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let uid = reference.and_then(|r| r.uid.as_deref()).unwrap_or("");
    if uid.is_empty() {
        let because = match reference {
            None => "it is free",
            Some(_) => "it is reserved for a claim that has not been bound to it yet",
        };
        return into_phase(volume, "Available", because);
    }
    let claim = o.claim.as_deref();
    let owner = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid));
    match owner {
        Some(claim) => claimed(volume, claim),
        None => unclaimed(o, uid),
    }
}

fn into_phase(volume: &PersistentVolume, phase: &str, because: &str) -> Plan {
    if volume_phase(volume) == phase {
        return Plan::idle(because);
    }
    plan(vec![status(&with_phase(volume, phase))], because)
}

/// The claim of the volume is there.
fn claimed(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let own = volume.metadata.name.as_deref().unwrap_or("");
    match volumes::volume_name(claim) {
        "" if matching::modes_differ(claim, volume) => {
            let name = claim.metadata.name.as_deref().unwrap_or("");
            let about_volume = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{name}\" due to incompatible volumeMode."
            );
            let about_claim = format!(
                "Cannot bind PersistentVolume \"{own}\" to requested PersistentVolumeClaim due to incompatible volumeMode."
            );
            let warn = EventType::Warning;
            let actions = vec![
                tell(volume, warn, "VolumeMismatch", &*about_volume),
                tell(claim, warn, "VolumeMismatch", about_claim),
            ];
            plan(actions, about_volume)
        }
        "" => Plan::idle("its claim takes the next step"),
        name if name == own => into_phase(volume, "Bound", "it is bound"),
        _ if has_annotation(&volume.metadata, notes::PROVISIONED_BY)
            && policy(volume) == "Delete" =>
        {
            // It was made for a claim that found another volume.
            release(volume)
        }
        _ => plan(
            vec![Action::update(&freed(volume), None)],
            "its claim is bound to another volume",
        ),
    }
}

/// The volume without its claim: forgotten if the binder chose it, otherwise still reserved by name.
fn freed(volume: &PersistentVolume) -> PersistentVolume {
    let mut volume = volume.clone();
    let annotations = volume.metadata.annotations.as_mut();
    let own_choice = annotations.and_then(|a| a.remove(notes::BOUND_BY_CONTROLLER));
    let spec = volume.spec.get_or_insert_default();
    match own_choice {
        Some(_) => spec.claim_ref = None,
        None => {
            if let Some(reference) = &mut spec.claim_ref {
                reference.uid = None;
            }
        }
    }
    volume
}

/// The claim of the volume seems to be gone: the API is asked before anything is given up.
fn unclaimed(o: &VolumeSeen, uid: &str) -> Plan {
    let released = matches!(volume_phase(&o.volume), "Released" | "Failed");
    match (&o.live_claim, reserved_for(&o.volume)) {
        (None, Some(claim)) if !released => plan(
            vec![Action::Confirm(question(&claim))],
            "its claim seems to be gone, the API is asked",
        ),
        (Some(Some(there)), _) if there == uid => Plan::idle("its claim is there after all"),
        _ => release(&o.volume),
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("")
}

/// Marks the volume released, and then does what its policy says.
fn release(volume: &PersistentVolume) -> Plan {
    let phase = volume_phase(volume);
    if phase != "Released" && phase != "Failed" {
        return into_phase(volume, "Released", "its claim is gone");
    }
    match policy(volume) {
        "Retain" => Plan::idle("its claim is gone, and it is to be retained"),
        "Recycle" => {
            let why = "No recycler plugin found for the volume!";
            failed(volume, "VolumeFailedRecycle", why)
        }
        "Delete" => match deleter(volume) {
            Ok(()) => Plan::idle("its provisioner deletes it"),
            Err(why) => failed(volume, "VolumeFailedDelete", &why),
        },
        _ => failed(
            volume,
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        ),
    }
}

/// Whether somebody else deletes such volumes; otherwise why nobody does.
fn deleter(volume: &PersistentVolume) -> Result<(), String> {
    match annotation(&volume.metadata, notes::PROVISIONED_BY) {
        Some(name) if name.starts_with("kubernetes.io/") => {
            return Err(format!("no volume plugin matched name: {name}"));
        }
        Some(name) if !name.is_empty() => return Ok(()),
        _ => {}
    }
    let spec = volume.spec.as_ref();
    if spec.is_some_and(|s| s.csi.is_some()) {
        return Ok(());
    }
    if let Some(host_path) = spec.and_then(|s| s.host_path.as_ref()) {
        let path = &host_path.path;
        return Err(format!(
            "host_path deleter only supports /tmp/.+ but received provided {path}"
        ));
    }
    let name = volume.metadata.name.as_deref().unwrap_or("");
    Err(format!(
        "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
    ))
}

fn failed(volume: &PersistentVolume, reason: &str, why: &str) -> Plan {
    if volume_phase(volume) == "Failed" {
        return Plan::idle(why);
    }
    let mut failed = with_phase(volume, "Failed");
    failed.status.get_or_insert_default().message = Some(why.to_owned());
    let event = tell(volume, EventType::Warning, reason, why);
    plan(vec![status(&failed), event], why)
}
