//! The table of all kinds. Adding a kind is one line here and one module.

use crate::kind::{AnyKind, Erased};
use crate::{apps, core};

/// Every kind served, in discovery order (core first, then groups).
pub static KINDS: &[&dyn AnyKind] = &[
    &Erased::<core::configmap::ConfigMap>::new(),
    &Erased::<core::endpoints::Endpoints>::new(),
    &Erased::<core::namespace::Namespace>::new(),
    &Erased::<core::node::Node>::new(),
    &Erased::<core::pod::Pod>::new(),
    &Erased::<core::podtemplate::PodTemplate>::new(),
    &Erased::<core::replicationcontroller::ReplicationController>::new(),
    &Erased::<core::secret::Secret>::new(),
    &Erased::<core::service::Service>::new(),
    &Erased::<core::serviceaccount::ServiceAccount>::new(),
    &Erased::<apps::deployment::Deployment>::new(),
    &Erased::<apps::replicaset::ReplicaSet>::new(),
];

/// The kind that serves `group/version/plural`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| {
        let names = k.names();
        names.plural == plural && names.group == group && names.version == version
    })
}

/// The kind with this group, version and CamelCase name.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| {
        let names = k.names();
        names.kind == kind && names.group == group && names.version == version
    })
}
