//! Why a claim is not bound.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::answer::{Answer, Cause};
use crate::events;
use crate::picture::Picture;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Explains the claim that is the subject.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let claim: PersistentVolumeClaim = picture.subject_as();
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase == Some("Bound") {
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let headline = format!("it is bound to the volume {}", volume.unwrap_or_default());
        return Answer::new(headline, Vec::new());
    }
    if phase == Some("Lost") {
        let cause = Cause::new("the volume that it was bound to is gone, and the data with it");
        return Answer::new("it is lost", vec![cause]);
    }
    Answer::new("it is not bound", causes(picture, &claim))
}

/// Whether it has its volume.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

/// Whether it is bound only once a pod that uses it has a node.
pub(crate) fn waits_for_pod(picture: &Picture, claim: &PersistentVolumeClaim) -> bool {
    let class = class_of(picture, claim);
    class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn class_of(picture: &Picture, claim: &PersistentVolumeClaim) -> Option<StorageClass> {
    let name = class_name(claim)?;
    let classes: Vec<StorageClass> = picture.of();
    classes
        .into_iter()
        .find(|c| c.metadata.name.as_deref() == Some(name))
}

/// Why it is not bound.
pub(crate) fn causes(picture: &Picture, claim: &PersistentVolumeClaim) -> Vec<Cause> {
    let mut causes = vec![first(picture, claim)];
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    causes.extend(events::causes(picture, uid));
    causes
}

fn first(picture: &Picture, claim: &PersistentVolumeClaim) -> Cause {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    if let Some(volume) = wanted.filter(|v| !v.is_empty()) {
        return named_volume(picture, claim, volume);
    }
    let Some(class) = class_name(claim) else {
        let classes: Vec<StorageClass> = picture.of();
        let is_default = |c: &StorageClass| {
            let annotations = c.metadata.annotations.as_ref();
            annotations
                .and_then(|a| a.get(DEFAULT_CLASS))
                .map(String::as_str)
                == Some("true")
        };
        return match classes.iter().any(is_default) {
            true => Cause::new("it names no class and has not been given the default one yet"),
            false => Cause::new("it names no class, there is no default class, and no volume without class fits")
                .advise("set storageClassName, mark a class as the default one, or create a PersistentVolume"),
        };
    };
    if class.is_empty() {
        return Cause::new(
            "it takes only volumes without class, and none of them is free and fits",
        )
        .advise(
            "create a PersistentVolume of that size and access mode, without storageClassName",
        );
    }
    let Some(found) = class_of(picture, claim) else {
        return Cause::new(format!(
            "its class {class} does not exist, and no volume of that class fits"
        ))
        .advise("create the StorageClass, or name one of: kubectl get storageclass");
    };
    if waits_for_pod(picture, claim) && !used(picture, claim) {
        return Cause::new(
            "it waits for the first pod that uses it: its class binds on the node of that pod",
        )
        .advise("nothing is wrong: start a pod that mounts it");
    }
    if found.provisioner == NO_PROVISIONER {
        return Cause::new(format!(
            "no volume of class {class} is free and fits, and the class makes none itself"
        ))
        .advise("create a PersistentVolume of that class, size and access mode");
    }
    Cause::new(format!(
        "it waits for the provisioner {}",
        found.provisioner
    ))
    .advise("see that the provisioner runs, and what it says in its events")
}

fn named_volume(picture: &Picture, claim: &PersistentVolumeClaim, volume: &str) -> Cause {
    let volumes: Vec<PersistentVolume> = picture.of();
    let found = volumes
        .iter()
        .find(|v| v.metadata.name.as_deref() == Some(volume));
    let Some(found) = found else {
        return Cause::new(format!(
            "it insists on the volume {volume}, which does not exist"
        ));
    };
    let holder = found.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let other =
        holder.filter(|r| r.name != claim.metadata.name || r.namespace != claim.metadata.namespace);
    match other {
        Some(other) => Cause::new(format!(
            "it insists on the volume {volume}, which belongs to the claim {}/{}",
            other.namespace.as_deref().unwrap_or_default(),
            other.name.as_deref().unwrap_or_default()
        )),
        None => Cause::new(format!(
            "it insists on the volume {volume}; size, class or access modes may not fit"
        ))
        .advise(format!("compare both: kubectl describe pv {volume}")),
    }
}

fn used(picture: &Picture, claim: &PersistentVolumeClaim) -> bool {
    !users(
        picture,
        claim.metadata.namespace.as_deref(),
        claim.metadata.name.as_deref(),
    )
    .is_empty()
}

/// Names of the pods that use a claim.
pub(crate) fn users(
    picture: &Picture,
    namespace: Option<&str>,
    claim: Option<&str>,
) -> Vec<String> {
    let pods: Vec<Pod> = picture.of();
    let uses = |pod: &&Pod| {
        let own = pod.metadata.name.as_deref().unwrap_or_default();
        let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        pod.metadata.namespace.as_deref() == namespace
            && volumes.any(|v| {
                let named = v
                    .persistent_volume_claim
                    .as_ref()
                    .map(|c| c.claim_name.as_str());
                let made = v.ephemeral.as_ref().map(|_| format!("{own}-{}", v.name));
                claim.is_some() && (named == claim || made.as_deref() == claim)
            })
    };
    let users = pods.iter().filter(uses);
    users.filter_map(|p| p.metadata.name.clone()).collect()
}
