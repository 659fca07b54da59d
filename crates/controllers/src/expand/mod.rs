//! Claims that have grown: the volumes that the cluster makes itself grow with them, others wait for their driver.
//!
//! A local volume is a directory, so growing is a matter of the objects alone: first the volume's capacity, then what the
//! claim's status tells. Upstream: `pkg/controller/volume/expand`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::plan::{reference, to_value};
use control::{Action, Event, EventType, Key, Look, Plan, Reconciler, Target, Wake};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use volumes::{capacity, local, requested, storage};

/// The expander of volumes.
pub struct ExpandController;

/// All that a decision may depend on.
pub struct Observed {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// The volume that it names.
    pub volume: Option<Arc<PersistentVolume>>,
}

impl Reconciler for ExpandController {
    type Observed = Observed;

    const NAME: &'static str = "persistentvolume-expander-controller";
    const IDENTITY: &'static str = "expand-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<PersistentVolumeClaim>(|change, _| {
            let claim = change.latest();
            grows(claim).then(|| Key::of(claim)).into_iter().collect()
        })
        .on::<PersistentVolume>(|change, _| {
            let spec = change.latest().spec.as_ref();
            let reference = spec.and_then(|s| s.claim_ref.as_ref());
            let key = reference.map(|r| {
                Key::new(
                    r.namespace.clone().unwrap_or_default(),
                    r.name.clone().unwrap_or_default(),
                )
            });
            let ours = local::node_of(change.latest()).is_some();
            key.filter(|_| ours).into_iter().collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let claim = look.caches.of::<PersistentVolumeClaim>().get(look.key)?;
        let name = volumes::volume_name(&claim);
        Some(Observed {
            volume: look.caches.of::<PersistentVolume>().named("", name),
            claim,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        if !grows(&o.claim) {
            return Plan::idle("it has what it asks for");
        }
        let uid = o.claim.metadata.uid.as_deref();
        let own = |volume: &&Arc<PersistentVolume>| {
            let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            reference.is_some_and(|r| r.uid.as_deref() == uid)
        };
        let Some(volume) = o.volume.as_ref().filter(own) else {
            return Plan::idle("its volume is not bound to it");
        };
        if local::node_of(volume).is_none() {
            let message = "waiting for an external controller to expand this PVC";
            let event = Event {
                about: reference(o.claim.as_ref()),
                event_type: EventType::Normal,
                reason: "ExternalExpanding".to_owned(),
                message: message.to_owned(),
            };
            return plan(Action::Event(event), message);
        }
        let wanted = Text(requested(&o.claim).to_string());
        if capacity(volume) < requested(&o.claim) {
            let mut volume = (**volume).clone();
            let spec = volume.spec.get_or_insert_default();
            let list = spec.capacity.get_or_insert_default();
            list.insert("storage".to_owned(), wanted);
            return plan(Action::update(&volume, None), "its volume grows");
        }
        let mut claim = (*o.claim).clone();
        let list = claim.status.get_or_insert_default();
        let list = list.capacity.get_or_insert_default();
        list.insert("storage".to_owned(), wanted);
        let action = Action::Update {
            target: Target::of(&claim),
            object: to_value(&claim),
            subresource: Some("status"),
            report: None,
        };
        plan(action, "its volume has grown")
    }
}

fn plan(action: Action, because: &str) -> Plan {
    Plan {
        actions: vec![action],
        because: because.to_owned(),
        ..Plan::default()
    }
}

/// Whether a bound claim asks for more than it has.
fn grows(claim: &PersistentVolumeClaim) -> bool {
    let has = storage(claim.status.as_ref().and_then(|s| s.capacity.as_ref()));
    volumes::claim_phase(claim) == "Bound" && has.is_some_and(|has| requested(claim) > has)
}
