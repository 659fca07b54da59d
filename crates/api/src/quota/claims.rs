//! Claims: how many, how much storage, both of each class too.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ScopedResourceSelectorRequirement};
use machinery::quantity::Quantity;

use super::{Amounts, selects, whole};
use crate::view::{OrEmpty, quantity};

const MEASURED: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Named the class before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn measures(name: &str) -> bool {
    let bare = name.rsplit_once(OF_CLASS).map_or(name, |(_, rest)| rest);
    MEASURED.contains(&bare)
}

pub(super) fn usage(claim: &PersistentVolumeClaim) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), whole(1))]);
    used.extend(storage(claim).map(|amount| ("requests.storage".to_owned(), amount)));
    let class = class(claim);
    if !class.is_empty() {
        let of_class = used.clone().into_iter();
        used.extend(of_class.map(|(name, amount)| (format!("{class}{OF_CLASS}{name}"), amount)));
    }
    used
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    match annotations.and_then(|a| a.get(CLASS_ANNOTATION)) {
        Some(class) => class,
        None => claim
            .spec
            .as_ref()
            .map_or("", |s| s.storage_class_name.text()),
    }
}

/// What is requested, or allocated already if that is more; in whole bytes.
fn storage(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let wanted = quantity(requests.get("storage")?)?;
    let allocated = claim
        .status
        .as_ref()
        .and_then(|s| s.allocated_resources.as_ref());
    let allocated = allocated.and_then(|a| a.get("storage")).and_then(quantity);
    let most = allocated.filter(|a| *a > wanted).unwrap_or(wanted);
    let fraction = most.milli_value() % 1000 != 0;
    Some(match fraction {
        true => Quantity::from_int(most.value(), most.format()),
        false => most,
    })
}

pub(super) fn in_scope(
    claim: &PersistentVolumeClaim,
    scope: &ScopedResourceSelectorRequirement,
) -> bool {
    scope.scope_name == "VolumeAttributesClass" && selects(scope, &attribute_classes(claim))
}

/// Whether a status says anything new about what is used.
pub(super) fn is_replenished(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> bool {
    let allocated = |claim: &PersistentVolumeClaim| {
        let status = claim.status.as_ref();
        let list = status.and_then(|s| s.allocated_resources.clone());
        list.and_then(|a| a.get("storage").cloned())
    };
    allocated(new) != allocated(old) || attribute_classes(new) != attribute_classes(old)
}

fn attribute_classes(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let spec = claim.spec.as_ref();
    let status = claim.status.as_ref();
    let modifying = status.and_then(|s| s.modify_volume_status.as_ref());
    let all = [
        spec.map_or("", |s| s.volume_attributes_class_name.text()),
        status.map_or("", |s| s.current_volume_attributes_class_name.text()),
        modifying.map_or("", |m| m.target_volume_attributes_class_name.text()),
    ];
    all.into_iter().filter(|name| !name.is_empty()).collect()
}
