//! A cache of one kind, kept in step by one watch.
//!
//! [`store`] lists, watches from there, and takes the watch up again after every break; nothing polls. A component has
//! one such store per kind and shares its [`Reader`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of a namespaced object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        Self {
            namespace: text(&meta.namespace),
            name: text(&meta.name),
        }
    }
}

/// What happened to an object since the last item of the stream.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is new, or it changed.
    Applied {
        /// As it is now.
        new: Arc<K>,
        /// As it was; `None`: it is new.
        old: Option<Arc<K>>,
    },
    /// It is gone; this was its last known state.
    Deleted(Arc<K>),
    /// The first list is complete: the store now knows all that was there when it began.
    Synced,
}

/// Reads a store; cheap to clone.
pub struct Reader<K> {
    objects: Arc<RwLock<HashMap<Key, Arc<K>>>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            synced: self.synced.clone(),
        }
    }
}

impl<K> Reader<K> {
    fn objects(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Key, Arc<K>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects().get(&Key::new(namespace, name)).cloned()
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects().len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.objects().is_empty()
    }

    /// The first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the first list is complete; returns false when the stream ended before.
    pub async fn synced(&self) -> bool {
        self.synced.clone().wait_for(|synced| *synced).await.is_ok()
    }
}

struct Writer<K> {
    objects: Arc<RwLock<HashMap<Key, Arc<K>>>>,
    synced: watch::Sender<bool>,
    /// What a list under way has shown so far.
    listed: HashMap<Key, Arc<K>>,
}

impl<K: Resource> Writer<K> {
    fn take(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(Key::of(&object), Arc::new(object));
                Vec::new()
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let (key, new) = (Key::of(&object), Arc::new(object));
                let old = self.write().insert(key, new.clone());
                vec![Change::Applied { new, old }]
            }
            Event::Delete(object) => {
                let old = self.write().remove(&Key::of(&object));
                old.map(|_| Change::Deleted(Arc::new(object)))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Key, Arc<K>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a complete list over; what has the version already known is no change.
    fn replace(&mut self) -> Vec<Change<K>> {
        let listed = std::mem::take(&mut self.listed);
        let before = std::mem::replace(&mut *self.write(), listed.clone());
        let gone = before.iter().filter(|(key, _)| !listed.contains_key(*key));
        let mut changes: Vec<Change<K>> = gone
            .map(|(_, object)| Change::Deleted(object.clone()))
            .collect();
        for (key, new) in listed {
            let old = before.get(&key).cloned();
            if old
                .as_ref()
                .is_none_or(|old| old.resource_version() != new.resource_version())
            {
                changes.push(Change::Applied { new, old });
            }
        }
        if !self.synced.send_replace(true) {
            changes.push(Change::Synced);
        }
        changes
    }
}

/// A store of all objects that `api` and `config` select, and the stream of its changes.
///
/// The stream does the work: the store stands still unless it is read. It never ends by itself.
pub fn store<K>(
    api: Api<K>,
    config: watcher::Config,
) -> (Reader<K>, impl Stream<Item = Change<K>> + Send)
where
    K: Resource<DynamicType: Default + Eq + Hash + Clone> + Clone + DeserializeOwned + Debug,
    K: Send + Sync + 'static,
{
    let objects = Arc::new(RwLock::new(HashMap::new()));
    let (sender, receiver) = watch::channel(false);
    let reader = Reader {
        objects: objects.clone(),
        synced: receiver,
    };
    let mut writer = Writer {
        objects,
        synced: sender,
        listed: HashMap::new(),
    };
    let events = watcher::watcher(api, config.any_semantic()).default_backoff();
    let changes = events
        .filter_map(|event| async {
            event
                .inspect_err(|error| {
                    let kind = K::kind(&K::DynamicType::default()).into_owned();
                    tracing::debug!(kind, %error, "watch interrupted, taking it up again");
                })
                .ok()
        })
        .flat_map(move |event| futures::stream::iter(writer.take(event)));
    (reader, changes)
}

#[cfg(test)]
mod tests;
