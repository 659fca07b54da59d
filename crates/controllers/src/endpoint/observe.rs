//! A Service, its pods and its Endpoints.

use std::sync::Arc;

use control::{Key, Look, Wake};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};

use super::MANAGED_BY;
use crate::services;

/// All that a decision may depend on.
pub struct Observed {
    /// The Service, if it is still there.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects, by name.
    pub pods: Vec<Arc<Pod>>,
    /// The Endpoints of its name.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// Services, their pods, and Endpoints of our own or gone ones. Endpoints that somebody made without a Service are let be.
pub(super) fn wake(on: &mut Wake<'_>) {
    on.on_root::<Service>()
        .on::<Pod>(services::keys_of_pod)
        .on::<Endpoints>(|change, _| {
            let labels = change.latest().metadata.labels.as_ref();
            let ours = labels.is_some_and(|labels| labels.contains_key(MANAGED_BY));
            let wakes = ours || change.is_deletion();
            wakes
                .then(|| Key::of(change.latest()))
                .into_iter()
                .collect()
        });
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let service = look.caches.of::<Service>().get(look.key);
    let endpoints = look.caches.of::<Endpoints>().get(look.key);
    if service.is_none() && endpoints.is_none() {
        return None;
    }
    let selector = service.as_ref().and_then(|s| services::selector(s));
    let mut pods = Vec::new();
    if let Some(selector) = selector {
        pods = look.caches.of::<Pod>().in_namespace(&look.key.namespace);
        pods.retain(|p| selector.matches_map(p.metadata.labels.as_ref()));
    }
    Some(Observed {
        service,
        pods,
        endpoints,
    })
}
