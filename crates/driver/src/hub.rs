//! Where the watches meet the controllers: changes go into the caches, wake-ups into the queues.

use std::sync::Arc;

use control::caches::WakeUp;
use control::{Caches, Key, Resource};
use tokio::sync::{Notify, watch};

use crate::items::Items;

/// The caches and the queues of all controllers of a process.
pub(crate) struct Hub {
    caches: Caches,
    controllers: Vec<Arc<Items>>,
    lists: watch::Sender<u64>,
    catalog_changed: Notify,
}

/// Groups whose objects bring and take kinds.
const KIND_MAKERS: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

impl Hub {
    /// For these controllers, in the order of their numbers.
    pub(crate) fn new(caches: Caches, controllers: Vec<Arc<Items>>) -> Self {
        Self {
            caches,
            controllers,
            lists: watch::Sender::new(0),
            catalog_changed: Notify::new(),
        }
    }

    /// The caches.
    pub(crate) const fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Changes a cache and queues whom it wakes.
    pub(crate) fn wake<T>(&self, change: impl FnOnce(&Caches, WakeUp<'_>) -> T) -> T {
        let mut queue = |controller: usize, key: Key| {
            if let Some(items) = self.controllers.get(controller) {
                items.add(key);
            }
        };
        change(&self.caches, &mut queue)
    }

    /// A watch has come further: items that waited for their own writes may go on.
    pub(crate) fn advanced(&self, resource: &Resource) {
        for items in &self.controllers {
            items.unpark(resource, &self.caches);
        }
    }

    /// A kind has been listed completely.
    pub(crate) fn listed(&self) {
        self.lists.send_modify(|lists| *lists += 1);
    }

    /// Tells of every complete list.
    pub(crate) fn lists(&self) -> watch::Receiver<u64> {
        self.lists.subscribe()
    }

    /// An object of this kind has changed: it may mean that other kinds come or go.
    pub(crate) fn object_changed(&self, resource: &Resource) {
        if KIND_MAKERS.contains(&resource.group.as_ref()) {
            self.catalog_changed.notify_one();
        }
    }

    /// Waits until kinds may have come or gone.
    pub(crate) async fn catalog_changed(&self) {
        self.catalog_changed.notified().await;
    }
}
