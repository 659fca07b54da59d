//! Classes of volume attributes stay while a claim or a volume refers to them.
//!
//! Upstream: `pkg/controller/volume/vacprotection`.

use std::sync::Arc;

use control::{Action, Change, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use volumes::notes::ATTRIBUTES_PROTECTION;

const BY_CLASS: &str = "attributes-class";

/// The protector of classes of attributes.
pub struct VacProtectionController;

/// All that a decision may depend on.
pub struct Observed {
    /// The class.
    pub class: Arc<VolumeAttributesClass>,
    /// Whether anything refers to it.
    pub used: bool,
}

impl Reconciler for VacProtectionController {
    type Observed = Observed;

    const NAME: &'static str = "volumeattributesclass-protection-controller";
    const IDENTITY: &'static str = "volumeattributesclass-protection-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<VolumeAttributesClass>()
            .index::<PersistentVolumeClaim>(BY_CLASS, of_claim)
            .index::<PersistentVolume>(BY_CLASS, of_volume)
            .on::<PersistentVolumeClaim>(|change, _| keys(change, of_claim))
            .on::<PersistentVolume>(|change, _| keys(change, of_volume));
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let name = &look.key.name;
        let claims = look
            .caches
            .of::<PersistentVolumeClaim>()
            .indexed(BY_CLASS, name);
        let volumes = look.caches.of::<PersistentVolume>().indexed(BY_CLASS, name);
        Some(Observed {
            class: look.caches.of::<VolumeAttributesClass>().get(look.key)?,
            used: !claims.is_empty() || !volumes.is_empty(),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let leaving = o.class.metadata.deletion_timestamp.is_some();
        let mut finalizers = o.class.metadata.finalizers.iter().flatten();
        let held = finalizers.any(|f| f == ATTRIBUTES_PROTECTION);
        let mut class = (*o.class).clone();
        let finalizers = class.metadata.finalizers.get_or_insert_default();
        let because = match (leaving, held) {
            (false, true) => return Plan::idle("it is protected"),
            (true, false) => return Plan::idle("it is leaving and no longer protected"),
            (true, true) if o.used => return Plan::idle("it is in use"),
            (false, false) => {
                finalizers.push(ATTRIBUTES_PROTECTION.to_owned());
                "it is not protected yet"
            }
            (true, true) => {
                finalizers.retain(|f| f != ATTRIBUTES_PROTECTION);
                "nothing refers to it"
            }
        };
        Plan {
            actions: vec![Action::update(&class, None)],
            because: because.to_owned(),
            ..Plan::default()
        }
    }
}

fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref();
    let wanted = wanted.and_then(|s| s.volume_attributes_class_name.clone());
    let current = claim.status.as_ref();
    let modified = current.and_then(|s| s.modify_volume_status.as_ref());
    let modified = modified.and_then(|m| m.target_volume_attributes_class_name.clone());
    let current = current.and_then(|s| s.current_volume_attributes_class_name.clone());
    [wanted, current, modified].into_iter().flatten().collect()
}

fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    let spec = volume.spec.as_ref();
    let class = spec.and_then(|s| s.volume_attributes_class_name.clone());
    class.into_iter().collect()
}

fn keys<K>(change: &Change<K>, classes: fn(&K) -> Vec<String>) -> Vec<Key> {
    change.sides().flat_map(classes).map(Key::cluster).collect()
}
