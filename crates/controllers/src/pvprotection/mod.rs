//! Volumes stay while they are bound: a finalizer keeps a deleted volume until its claim is gone.
//!
//! Upstream: `pkg/controller/volume/pvprotection`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::PersistentVolume;
use volumes::notes::VOLUME_PROTECTION;

/// The protector of volumes.
pub struct PvProtectionController;

impl Reconciler for PvProtectionController {
    type Observed = Arc<PersistentVolume>;

    const NAME: &'static str = "persistentvolume-protection-controller";
    const IDENTITY: &'static str = "pv-protection-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<PersistentVolume>();
    }

    fn observe(&self, look: &Look<'_>) -> Option<Arc<PersistentVolume>> {
        look.caches.of::<PersistentVolume>().get(look.key)
    }

    fn reconcile(volume: &Arc<PersistentVolume>) -> Plan {
        let leaving = volume.metadata.deletion_timestamp.is_some();
        let mut finalizers = volume.metadata.finalizers.iter().flatten();
        let held = finalizers.any(|f| f == VOLUME_PROTECTION);
        let mut volume = (**volume).clone();
        let finalizers = volume.metadata.finalizers.get_or_insert_default();
        let because = match (leaving, held) {
            (false, true) => return Plan::idle("it is protected"),
            (true, false) => return Plan::idle("it is leaving and no longer protected"),
            (false, false) => {
                finalizers.push(VOLUME_PROTECTION.to_owned());
                "it is not protected yet"
            }
            (true, true) => {
                finalizers.retain(|f| f != VOLUME_PROTECTION);
                if volumes::volume_phase(&volume) == "Bound" {
                    return Plan::idle("it is bound");
                }
                "no claim is bound to it"
            }
        };
        Plan {
            actions: vec![Action::update(&volume, None)],
            because: because.to_owned(),
            ..Plan::default()
        }
    }
}
