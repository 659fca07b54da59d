//! Claims of generic ephemeral volumes: made for a pod, owned by it, gone with it.
//!
//! Invariant: a claim of the right name that was not made for the pod is never used. Upstream:
//! `pkg/controller/volume/ephemeral`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::plan::reference;
use control::{Action, Event, EventType, Key, Look, Plan, Reconciler, Report, Wake};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ownership::controller_reference;
use crate::pods;

/// The maker of claims for pods.
pub struct EphemeralVolumeController;

/// All that a decision may depend on.
pub struct Observed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its ephemeral volumes, each with the claim of its name.
    pub volumes: Vec<(Volume, Option<Arc<PersistentVolumeClaim>>)>,
}

impl Reconciler for EphemeralVolumeController {
    type Observed = Observed;

    const NAME: &'static str = "ephemeral-volume-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Pod>(|change, _| {
            let pod = change.latest();
            let concerned = !pods::is_deleting(pod) && ephemeral(pod).next().is_some();
            concerned.then(|| Key::of(pod)).into_iter().collect()
        })
        .on::<PersistentVolumeClaim>(|change, _| {
            let claim = change.latest();
            let owners = claim.metadata.owner_references.iter().flatten();
            let pods = owners.filter(|owner| owner.kind == "Pod" && owner.controller == Some(true));
            let namespace = claim.metadata.namespace.clone().unwrap_or_default();
            pods.map(|owner| Key::new(namespace.clone(), owner.name.clone()))
                .collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let pod = look.caches.of::<Pod>().get(look.key)?;
        let claims = look.caches.of::<PersistentVolumeClaim>();
        let with_claim = |volume: &Volume| {
            let claim = claims.named(&look.key.namespace, &name_for(&pod, volume));
            (volume.clone(), claim)
        };
        let volumes = ephemeral(&pod).map(with_claim).collect();
        Some(Observed { pod, volumes })
    }

    fn reconcile(o: &Observed) -> Plan {
        if pods::is_deleting(&o.pod) {
            return Plan::idle("the pod is leaving");
        }
        let missing = |(volume, claim): &&(Volume, Option<Arc<PersistentVolumeClaim>>)| {
            let _ = volume;
            claim.is_none()
        };
        for (volume, claim) in &o.volumes {
            let Some(claim) = claim.as_deref() else {
                continue;
            };
            if !volumes::is_made_for(claim, &o.pod) {
                return refused(&o.pod, volume, claim);
            }
        }
        let absent: Vec<&Volume> = o.volumes.iter().filter(missing).map(|(v, _)| v).collect();
        if absent.is_empty() {
            return Plan::idle("its claims are there");
        }
        Plan {
            actions: absent.iter().map(|v| create(&o.pod, v)).collect(),
            because: format!("{} of its claims are missing", absent.len()),
            ..Plan::default()
        }
    }
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

fn name_for(pod: &Pod, volume: &Volume) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", volume.name)
}

fn create(pod: &Pod, volume: &Volume) -> Action {
    let source = volume.ephemeral.as_ref();
    let template = source.and_then(|s| s.volume_claim_template.clone());
    let template = template.unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let name = name_for(pod, volume);
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(pod)]),
            annotations: metadata.annotations,
            labels: metadata.labels,
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        ..PersistentVolumeClaim::default()
    };
    let failure = format!("ephemeral volume {}: create PVC {name}: ", volume.name);
    let report = Report {
        about: reference(pod),
        success: None,
        failure: Some(("FailedBinding", failure)),
    };
    Action::create(&claim, Some(report))
}

fn refused(pod: &Pod, volume: &Volume, claim: &PersistentVolumeClaim) -> Plan {
    let full = |meta: &ObjectMeta| Key::of_meta(meta).to_string();
    let message = format!(
        "ephemeral volume {}: PVC {} was not created for pod {} (pod is not owner)",
        volume.name,
        full(&claim.metadata),
        full(&pod.metadata)
    );
    Plan {
        actions: vec![Action::Event(Event {
            about: reference(pod),
            event_type: EventType::Warning,
            reason: "FailedBinding".to_owned(),
            message: message.clone(),
        })],
        because: message,
        ..Plan::default()
    }
}
