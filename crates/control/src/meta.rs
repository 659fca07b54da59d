//! Who owns whom, over all kinds: as much of every object's metadata as garbage collection and namespace deletion need.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::RwLock;
use serde::Deserialize;

use crate::caches::{AnyStore, Caches, WakeUp, Written};
use crate::resource::{Key, Resource, Target};
use crate::store::version_of;

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Kind and name.
    pub target: Target,
    /// UID.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Whether its deletion has begun.
    pub deleting: bool,
}

impl Meta {
    /// The part of the metadata that is kept.
    pub fn of(resource: &Resource, meta: &ObjectMeta) -> Self {
        Self {
            target: Target {
                resource: resource.clone(),
                key: Key::of_meta(meta),
            },
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    /// Whether it waits for its dependents to go first.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has_finalizer("foregroundDeletion")
    }

    /// Whether it has the finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|f| f == name)
    }
}

/// What happened to one object's metadata.
#[derive(Clone, Debug)]
pub struct MetaChange {
    /// As it was known before.
    pub old: Option<Arc<Meta>>,
    /// As it is now; none after its deletion.
    pub new: Option<Arc<Meta>>,
}

/// Maps a change to the items of one controller that it concerns.
pub type MetaMapper = fn(&MetaChange, &Caches) -> Vec<Key>;

#[derive(Default)]
struct Graph {
    by_target: BTreeMap<Target, Arc<Meta>>,
    by_uid: HashMap<String, Target>,
    dependents: HashMap<String, BTreeSet<Target>>,
    namespaces: HashMap<String, BTreeSet<Target>>,
    gone: HashSet<String>,
    gone_in_order: VecDeque<String>,
}

/// Owners whose end is remembered.
const GONE: usize = 500;

/// The metadata of all objects. Empty until a controller subscribes to it.
#[derive(Default)]
pub struct MetaStore {
    enabled: AtomicBool,
    graph: RwLock<Graph>,
    subscribers: RwLock<Vec<(usize, MetaMapper)>>,
}

impl MetaStore {
    /// Whether anybody reads it.
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Lets a controller be woken by changes.
    pub fn subscribe(&self, controller: usize, mapper: MetaMapper) {
        self.enabled.store(true, Ordering::Release);
        self.subscribers.write().push((controller, mapper));
    }

    /// The object with this UID.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Meta>> {
        let graph = self.graph.read();
        graph.by_target.get(graph.by_uid.get(uid)?).cloned()
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Meta>> {
        let graph = self.graph.read();
        let targets = graph.dependents.get(uid).into_iter().flatten();
        targets
            .filter_map(|t| graph.by_target.get(t).cloned())
            .collect()
    }

    /// Whether the watch has told the end of an owner with this UID. A UID never comes back; only the last ends are
    /// remembered.
    pub fn is_gone(&self, uid: &str) -> bool {
        self.graph.read().gone.contains(uid)
    }

    /// The objects in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Meta>> {
        let graph = self.graph.read();
        let targets = graph.namespaces.get(namespace).into_iter().flatten();
        targets
            .filter_map(|t| graph.by_target.get(t).cloned())
            .collect()
    }

    /// The objects of a resource, whichever version they are watched in.
    pub fn of_resource(&self, resource: &Resource) -> Vec<Arc<Meta>> {
        let graph = self.graph.read();
        let all = graph.by_target.iter();
        all.filter(|(target, _)| target.resource.same_resource(resource))
            .map(|(_, meta)| Arc::clone(meta))
            .collect()
    }

    /// Takes over the metadata of one object.
    pub fn upsert(&self, caches: &Caches, wake: WakeUp<'_>, meta: impl FnOnce() -> Meta) {
        if !self.enabled() {
            return;
        }
        let new = Arc::new(meta());
        let old = {
            let mut graph = self.graph.write();
            let old = graph.take(&new.target);
            graph.put(&new);
            if let Some(old) = old.as_ref().filter(|old| old.uid != new.uid) {
                graph.remember_end(&old.uid);
            }
            old
        };
        let change = MetaChange {
            old,
            new: Some(new),
        };
        self.tell(&change, caches, wake);
    }

    /// Forgets one object.
    pub fn remove(&self, resource: &Resource, key: &Key, caches: &Caches, wake: WakeUp<'_>) {
        if !self.enabled() {
            return;
        }
        let target = Target {
            resource: resource.clone(),
            key: key.clone(),
        };
        let old = {
            let mut graph = self.graph.write();
            let Some(old) = graph.take(&target) else {
                return;
            };
            graph.remember_end(&old.uid);
            old
        };
        let change = MetaChange {
            old: Some(old),
            new: None,
        };
        self.tell(&change, caches, wake);
    }

    fn tell(&self, change: &MetaChange, caches: &Caches, wake: WakeUp<'_>) {
        let subscribers = self.subscribers.read().clone();
        for (controller, mapper) in subscribers {
            for key in mapper(change, caches) {
                wake(controller, key);
            }
        }
    }
}

impl Graph {
    fn put(&mut self, meta: &Arc<Meta>) {
        let target = &meta.target;
        self.by_uid.insert(meta.uid.clone(), target.clone());
        for owner in &meta.owners {
            let dependents = self.dependents.entry(owner.uid.clone()).or_default();
            dependents.insert(target.clone());
        }
        if !target.key.namespace.is_empty() {
            let namespace = self.namespaces.entry(target.key.namespace.clone());
            namespace.or_default().insert(target.clone());
        }
        self.by_target.insert(target.clone(), Arc::clone(meta));
    }

    /// Remembers that an owner has ended, as long as somebody names it.
    fn remember_end(&mut self, uid: &str) {
        if !self.dependents.contains_key(uid) || !self.gone.insert(uid.to_owned()) {
            return;
        }
        self.gone_in_order.push_back(uid.to_owned());
        if self.gone_in_order.len() > GONE
            && let Some(oldest) = self.gone_in_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    fn take(&mut self, target: &Target) -> Option<Arc<Meta>> {
        let meta = self.by_target.remove(target)?;
        self.by_uid.remove(&meta.uid);
        for owner in &meta.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(target);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if let Some(members) = self.namespaces.get_mut(&target.key.namespace) {
            members.remove(target);
            if members.is_empty() {
                self.namespaces.remove(&target.key.namespace);
            }
        }
        Some(meta)
    }
}

/// A kind that no controller reads as such: only its metadata is watched.
pub struct MetaKind {
    resource: Resource,
    state: RwLock<MetaKindState>,
}

#[derive(Default)]
struct MetaKindState {
    keys: HashSet<Key>,
    staged: HashSet<Key>,
    seen: u64,
    synced: bool,
    lists: u64,
}

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl MetaKind {
    /// A kind of which nothing is known yet.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            state: RwLock::default(),
        }
    }
}

impl AnyStore for MetaKind {
    fn resource(&self) -> &Resource {
        &self.resource
    }

    fn metadata_only(&self) -> bool {
        true
    }

    fn apply(
        &self,
        raw: &str,
        _now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error> {
        let partial: Partial = serde_json::from_str(raw)?;
        let meta = Meta::of(&self.resource, &partial.metadata);
        self.progress(version_of(Some(&meta.resource_version)));
        self.state.write().keys.insert(meta.target.key.clone());
        caches.meta.upsert(caches, wake, || meta);
        Ok(())
    }

    fn stage(
        &self,
        raw: &str,
        now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error> {
        let partial: Partial = serde_json::from_str(raw)?;
        let key = Key::of_meta(&partial.metadata);
        self.state.write().staged.insert(key);
        self.apply(raw, now, caches, wake)
    }

    fn finish(&self, version: u64, caches: &Caches, wake: WakeUp<'_>) {
        let gone: Vec<Key> = {
            let mut state = self.state.write();
            let staged = std::mem::take(&mut state.staged);
            state.seen = state.seen.max(version);
            state.keys.difference(&staged).cloned().collect()
        };
        for key in gone {
            self.delete(&key, version, caches, wake);
        }
        let mut state = self.state.write();
        state.synced = true;
        state.lists += 1;
    }

    fn delete(&self, key: &Key, version: u64, caches: &Caches, wake: WakeUp<'_>) {
        self.state.write().keys.remove(key);
        caches.meta.remove(&self.resource, key, caches, wake);
        self.progress(version);
    }

    fn progress(&self, version: u64) {
        let mut state = self.state.write();
        state.seen = state.seen.max(version);
    }

    fn synced(&self) -> bool {
        self.state.read().synced
    }

    fn lists(&self) -> u64 {
        self.state.read().lists
    }

    fn has_seen(&self, written: &Written) -> bool {
        match written {
            Written::At(version) => self.state.read().seen >= *version,
            Written::Deleted { key, .. } => !self.state.read().keys.contains(key),
        }
    }

    fn count(&self) -> usize {
        self.state.read().keys.len()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
