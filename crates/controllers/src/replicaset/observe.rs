//! What a ReplicaSet is to the common part, and who its siblings are.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Caches, Key};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use machinery::labels::Selector;

use crate::ownership::{Claimant, controller_of};
use crate::replicas::Replicated;

/// Index of ReplicaSets by the UID of their controller.
pub(crate) const SIBLINGS: &str = "controller";

impl Replicated for ReplicaSet {
    const TELLS_TERMINATING: bool = true;

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }
}

impl Claimant for ReplicaSet {
    fn selector(&self) -> Selector {
        Selector::from_label_selector(&self.spec.selector).unwrap_or_else(|_| Selector::nothing())
    }
}

/// The pods of all ReplicaSets of the same controller; its own when it has none.
pub(super) fn related(caches: &Caches, root: &ReplicaSet) -> Vec<Arc<Pod>> {
    let namespace = root.metadata.namespace.as_deref().unwrap_or_default();
    let siblings = match controller_of(&root.metadata) {
        Some(controller) => caches.of::<ReplicaSet>().indexed(SIBLINGS, &controller.uid),
        None => vec![Arc::new(root.clone())],
    };
    let selectors: Vec<Selector> = siblings.iter().map(|s| s.selector()).collect();
    let pods = caches.of::<Pod>().in_namespace(namespace);
    let related: BTreeMap<Key, Arc<Pod>> = pods
        .into_iter()
        .filter(|p| {
            let labels = p.metadata.labels.as_ref();
            selectors.iter().any(|s| s.matches_map(labels))
        })
        .map(|p| (Key::of(p.as_ref()), p))
        .collect();
    related.into_values().collect()
}
