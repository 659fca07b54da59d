//! What a ReplicationController is to the common part.

use std::sync::Arc;

use control::Caches;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use machinery::labels::Selector;

use crate::ownership::Claimant;
use crate::replicas::Replicated;

impl Replicated for ReplicationController {
    const TELLS_TERMINATING: bool = false;

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
}

impl Claimant for ReplicationController {
    fn selector(&self) -> Selector {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        match selector {
            Some(labels) if !labels.is_empty() => Selector::from_map(labels),
            _ => Selector::nothing(),
        }
    }
}

/// Its own pods: it has no siblings.
pub(super) fn related(caches: &Caches, root: &ReplicationController) -> Vec<Arc<Pod>> {
    let namespace = root.metadata.namespace.as_deref().unwrap_or_default();
    let selector = root.selector();
    let mut pods = caches.of::<Pod>().in_namespace(namespace);
    pods.retain(|p| selector.matches_map(p.metadata.labels.as_ref()));
    pods
}
