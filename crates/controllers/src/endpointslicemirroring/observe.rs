//! Endpoints, the Service of the same name, and the slices that mirror them.

use std::sync::Arc;

use control::{Change, Key, Look, Names, Wake};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::MANAGER;
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME};

const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Index of our slices by `namespace/service`.
const MIRRORS: &str = "mirrors";

/// All that a decision may depend on.
pub struct Observed {
    /// The Endpoints, if they are there and are to be mirrored.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The slices that mirror them, by name.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Unused name suffixes.
    pub names: Names,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on::<Endpoints>(|change, _| {
        let concerned = change.sides().any(may_be_mirrored);
        let key = Key::of(change.latest());
        concerned.then_some(key).into_iter().collect()
    })
    .on::<Service>(keys_of_service)
    .on::<EndpointSlice>(|change, _| service_of(change.latest()).into_iter().collect())
    .index::<EndpointSlice>(MIRRORS, |slice| {
        let service = service_of(slice).map(|key| key.to_string());
        service.into_iter().collect()
    });
}

/// Only Services without selector, and those that gain or lose it.
fn keys_of_service(change: &Change<Service>, _: &control::Caches) -> Vec<Key> {
    let concerned = change.sides().any(|service| !has_selector(service));
    let key = Key::of(change.latest());
    concerned.then_some(key).into_iter().collect()
}

fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.selector.is_some())
}

/// Not those that ask to be left alone or serve as a lock.
fn may_be_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skip = meta.labels.as_ref().and_then(|l| l.get(SKIP));
    let lock = meta.annotations.as_ref().and_then(|a| a.get(LEADER));
    skip.is_none_or(|skip| skip != "true") && lock.is_none()
}

/// The Service that one of our slices belongs to.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY.0).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some(Key::new(namespace, labels.get(SERVICE_NAME)?.clone()))
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let endpoints = look.caches.of::<Endpoints>().get(look.key);
    let service = look.caches.of::<Service>().get(look.key);
    let bare = service.is_some_and(|service| !has_selector(&service));
    let slices = look.caches.of::<EndpointSlice>();
    let mut slices = slices.indexed(MIRRORS, &look.key.to_string());
    slices.retain(|s| s.metadata.deletion_timestamp.is_none());
    Some(Observed {
        endpoints: endpoints.filter(|e| bare && may_be_mirrored(e)),
        slices,
        names: look.names,
    })
}
