//! The binder: gives every claim a volume, and reclaims volumes whose claim is gone.
//!
//! - One step at a time, each decided from what is there: the volume gets its claim, then the claim its volume, then both
//!   their phases. A crash between two steps loses nothing, because a reserved volume is found again before any other.
//! - A volume is taken under the resourceVersion that was seen, so two claims never get the same.
//! - Volumes with data are never given to somebody else: a released volume stays with the claim it had.
//! - Recycling is not done: such a volume fails with the event of a cluster without a recycler.
//!
//! Items are claims (`namespace/name`) and volumes (`name`). Upstream: `pkg/controller/volume/persistentvolume`.

mod claim;
mod observe;
#[cfg(test)]
mod tests;
mod volume;

pub use observe::{ClaimSeen, Observed, VolumeSeen};
pub(crate) use observe::{claim_keys_of_pod, index_pods, pods_of_claim};

use control::plan::reference;
use control::{Action, Event, EventType, Look, Plan, Reconciler, Wake};

/// The binder of claims and volumes.
pub struct PersistentVolumeController;

impl Reconciler for PersistentVolumeController {
    type Observed = Observed;

    const NAME: &'static str = "persistentvolume-controller";
    const IDENTITY: &'static str = "persistent-volume-binder";

    fn wake(on: &mut Wake<'_>) {
        observe::wake(on);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        observe::observe(look)
    }

    fn reconcile(o: &Observed) -> Plan {
        match o {
            Observed::Claim(seen) => claim::reconcile(seen),
            Observed::Volume(seen) => volume::reconcile(seen),
        }
    }
}

/// An event about an object.
fn tell<K: control::Kind>(
    about: &K,
    event_type: EventType,
    reason: &str,
    message: impl Into<String>,
) -> Action {
    Action::Event(Event {
        about: reference(about),
        event_type,
        reason: reason.to_owned(),
        message: message.into(),
    })
}

/// A write of an object's status, under the resourceVersion that was seen.
fn status<K: control::Kind>(object: &K) -> Action {
    Action::Update {
        target: control::Target::of(object),
        object: control::plan::to_value(object),
        subresource: Some("status"),
        report: None,
    }
}

/// A plan of these actions.
fn plan(actions: Vec<Action>, because: impl Into<String>) -> Plan {
    Plan {
        actions,
        because: because.into(),
        ..Plan::default()
    }
}
