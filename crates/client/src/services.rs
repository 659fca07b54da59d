//! Services and the `EndpointSlice`s that belong to them, followed by two watches: what the service proxy and the cluster
//! DNS both need to know.
//!
//! [`follow`] calls back with the services whose picture changed, as many at a time as have arrived by then; the first
//! call comes when both lists are complete and holds every service, so a start is one step and never a stream of halves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

/// A name-space and a name.
pub type Key = (String, String);

/// All services and slices as last seen.
#[derive(Default)]
pub struct Services {
    services: HashMap<Key, Service>,
    /// Slices by the service that they belong to, then by name.
    slices: HashMap<Key, BTreeMap<String, EndpointSlice>>,
    /// The service that a slice belonged to when last seen.
    owners: HashMap<Key, Key>,
    changed: BTreeSet<Key>,
    listed: (bool, bool),
    /// What a list that is under way has not shown yet.
    unseen: (BTreeSet<Key>, BTreeSet<Key>),
}

enum Seen {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Again,
}

/// Follows services and slices until the watches end, which they only do when the client is closed. `each` gets
/// everything known and the keys of the services to look at again: those that have changed, and all of them when
/// `again` says so.
pub async fn follow(
    client: kube::Client,
    again: impl Stream<Item = ()> + Send,
    mut each: impl FnMut(&Services, BTreeSet<Key>),
) {
    let config = || watcher::Config::default().any_semantic();
    let services = watcher(Api::<Service>::all(client.clone()), config()).default_backoff();
    let slices = watcher(Api::<EndpointSlice>::all(client), config()).default_backoff();
    let seen = futures::stream::select_all([
        services
            .map_ok(|event| Seen::Service(Box::new(event)))
            .boxed(),
        slices.map_ok(|event| Seen::Slice(Box::new(event))).boxed(),
        again.map(|()| Ok(Seen::Again)).boxed(),
    ]);
    let mut seen = pin!(seen);
    let mut known = Services::default();
    while let Some(first) = seen.next().await {
        // Whatever has arrived by now is handled together.
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Ok(Seen::Service(event)) => known.service(*event),
                Ok(Seen::Slice(event)) => known.slice(*event),
                Ok(Seen::Again) => known.changed.extend(known.services.keys().cloned()),
                Err(error) => tracing::warn!(%error, "watch interrupted; it is taken up again"),
            }
            next = seen.next().now_or_never().flatten();
        }
        if known.listed == (true, true) {
            let changed = std::mem::take(&mut known.changed);
            each(&known, changed);
        }
    }
}

fn key(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn owner(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get("kubernetes.io/service-name")?;
    Some((
        slice.metadata.namespace.clone().unwrap_or_default(),
        service.clone(),
    ))
}

impl Services {
    /// A service, if it exists.
    pub fn get(&self, key: &Key) -> Option<&Service> {
        self.services.get(key)
    }

    /// The slices of a service, ordered by name.
    pub fn slices(&self, key: &Key) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Every service.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.services.keys()
    }

    fn service(&mut self, event: Event<Service>) {
        match event {
            Event::Init => self.unseen.0 = self.services.keys().cloned().collect(),
            Event::InitApply(service) | Event::Apply(service) => {
                let key = key(&service.metadata);
                self.unseen.0.remove(&key);
                self.changed.insert(key.clone());
                self.services.insert(key, service);
            }
            Event::Delete(service) => self.remove_service(key(&service.metadata)),
            Event::InitDone => {
                for gone in std::mem::take(&mut self.unseen.0) {
                    self.remove_service(gone);
                }
                self.listed.0 = true;
            }
        }
    }

    fn slice(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.unseen.1 = self.owners.keys().cloned().collect(),
            Event::InitApply(slice) | Event::Apply(slice) => {
                let key = key(&slice.metadata);
                self.unseen.1.remove(&key);
                self.remove_slice(&key);
                if let Some(owner) = owner(&slice) {
                    self.changed.insert(owner.clone());
                    self.owners.insert(key.clone(), owner.clone());
                    self.slices.entry(owner).or_default().insert(key.1, slice);
                }
            }
            Event::Delete(slice) => self.remove_slice(&key(&slice.metadata)),
            Event::InitDone => {
                for gone in std::mem::take(&mut self.unseen.1) {
                    self.remove_slice(&gone);
                }
                self.listed.1 = true;
            }
        }
    }

    fn remove_service(&mut self, key: Key) {
        self.services.remove(&key);
        self.changed.insert(key);
    }

    fn remove_slice(&mut self, key: &Key) {
        let Some(owner) = self.owners.remove(key) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&owner) {
            slices.remove(&key.1);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        self.changed.insert(owner);
    }
}
