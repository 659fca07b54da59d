//! The cache of one kind: typed objects by key, a few indexes, and how far the watch has come.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use crate::caches::{AnyStore, Caches, WakeUp, Written};
use crate::meta::Meta;
use crate::resource::{Key, Kind, Resource};

/// What happened to one object.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// As the cache had it before.
    pub old: Option<Arc<K>>,
    /// As it is now; none after its deletion.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object in its latest known form.
    pub fn latest(&self) -> &K {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has at least one side")
    }

    /// Both sides that are there, the old one first.
    pub fn sides(&self) -> impl Iterator<Item = &K> {
        self.old.as_deref().into_iter().chain(self.new.as_deref())
    }

    /// Whether the object has gone.
    pub const fn is_deletion(&self) -> bool {
        self.new.is_none()
    }
}

/// Maps a change to the items of one controller that it concerns.
pub type Mapper<K> = fn(&Change<K>, &Caches) -> Vec<Key>;

/// The values under which an index finds an object.
pub type Indexer<K> = fn(&K) -> Vec<String>;

/// Takes out of an object what no controller of the process reads.
pub type Trim<K> = fn(&mut K);

struct Entry<K> {
    object: Arc<K>,
    seen_at: Timestamp,
}

struct Index<K> {
    name: &'static str,
    values: Indexer<K>,
    keys: BTreeMap<String, BTreeSet<Key>>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Entry<K>>,
    indexes: Vec<Index<K>>,
    staged: HashSet<Key>,
    seen: u64,
    synced: bool,
    lists: u64,
}

/// All objects of one kind, as far as the watch has told.
pub struct Store<K> {
    resource: Resource,
    inner: RwLock<Inner<K>>,
    subscribers: RwLock<Vec<(usize, Mapper<K>)>>,
    trims: RwLock<Vec<Trim<K>>>,
}

impl<K: Kind> Store<K> {
    /// An empty store that has seen nothing.
    pub fn new() -> Self {
        Self {
            resource: Resource::of::<K>(),
            inner: RwLock::new(Inner {
                objects: BTreeMap::new(),
                indexes: Vec::new(),
                staged: HashSet::new(),
                seen: 0,
                synced: false,
                lists: 0,
            }),
            subscribers: RwLock::default(),
            trims: RwLock::default(),
        }
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        let inner = self.inner.read();
        inner.objects.get(key).map(|e| Arc::clone(&e.object))
    }

    /// One object of this name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&Key::new(namespace, name))
    }

    /// When the present version of the object arrived here, by our own clock.
    pub fn seen_at(&self, key: &Key) -> Option<Timestamp> {
        self.inner.read().objects.get(key).map(|e| e.seen_at)
    }

    /// All objects, by key.
    pub fn all(&self) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let objects = inner.objects.values();
        objects.map(|e| Arc::clone(&e.object)).collect()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let start = Key::new(namespace, "");
        inner
            .objects
            .range(start..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, e)| Arc::clone(&e.object))
            .collect()
    }

    /// The objects that an index holds under a value, by key. The index must have been declared with [`Store::index`].
    pub fn indexed(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let found = inner.indexes.iter().find(|i| i.name == index);
        debug_assert!(found.is_some(), "index {index} was not declared");
        let keys = found.and_then(|i| i.keys.get(value)).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key))
            .map(|e| Arc::clone(&e.object))
            .collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Declares an index; a second declaration of the same name changes nothing.
    pub fn index(&self, name: &'static str, values: Indexer<K>) {
        let mut inner = self.inner.write();
        if inner.indexes.iter().any(|i| i.name == name) {
            return;
        }
        let mut index = Index {
            name,
            values,
            keys: BTreeMap::new(),
        };
        for (key, entry) in &inner.objects {
            index.add(key, &entry.object);
        }
        inner.indexes.push(index);
    }

    /// Keeps less of every object, to save memory.
    pub fn trim(&self, trim: Trim<K>) {
        self.trims.write().push(trim);
    }

    /// Lets a controller be woken by changes.
    pub fn subscribe(&self, controller: usize, mapper: Mapper<K>) {
        self.subscribers.write().push((controller, mapper));
    }

    /// Puts one object into the cache and wakes whom it concerns.
    pub fn upsert(&self, mut object: K, now: Timestamp, caches: &Caches, wake: WakeUp<'_>) {
        object.metadata_mut().managed_fields = None;
        for trim in self.trims.read().iter() {
            trim(&mut object);
        }
        let key = Key::of(&object);
        let version = version_of(object.metadata().resource_version.as_deref());
        caches
            .meta
            .upsert(caches, wake, || Meta::of(&self.resource, object.metadata()));
        let new = Arc::new(object);
        let old = {
            let mut inner = self.inner.write();
            let entry = Entry {
                object: Arc::clone(&new),
                seen_at: now,
            };
            let old = inner.objects.insert(key.clone(), entry).map(|e| e.object);
            inner.seen = inner.seen.max(version);
            for index in &mut inner.indexes {
                if let Some(old) = &old {
                    index.remove(&key, old);
                }
                index.add(&key, &new);
            }
            old
        };
        let change = Change {
            old,
            new: Some(new),
        };
        self.tell(&change, caches, wake);
    }

    /// Takes one object out of the cache and wakes whom it concerned.
    pub fn remove(&self, key: &Key, caches: &Caches, wake: WakeUp<'_>) {
        let old = {
            let mut inner = self.inner.write();
            let Some(old) = inner.objects.remove(key).map(|e| e.object) else {
                return;
            };
            for index in &mut inner.indexes {
                index.remove(key, &old);
            }
            old
        };
        caches.meta.remove(&self.resource, key, caches, wake);
        let change = Change {
            old: Some(old),
            new: None,
        };
        self.tell(&change, caches, wake);
    }

    fn tell(&self, change: &Change<K>, caches: &Caches, wake: WakeUp<'_>) {
        let subscribers = self.subscribers.read().clone();
        for (controller, mapper) in subscribers {
            for key in mapper(change, caches) {
                wake(controller, key);
            }
        }
    }
}

impl<K: Kind> Default for Store<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Index<K> {
    fn add(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

impl<K: Kind> AnyStore for Store<K> {
    fn resource(&self) -> &Resource {
        &self.resource
    }

    fn metadata_only(&self) -> bool {
        false
    }

    fn apply(
        &self,
        raw: &str,
        now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error> {
        self.upsert(serde_json::from_str(raw)?, now, caches, wake);
        Ok(())
    }

    fn stage(
        &self,
        raw: &str,
        now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error> {
        let object: K = serde_json::from_str(raw)?;
        let key = Key::of(&object);
        let known = self.get(&key).is_some_and(|known| {
            let (known, new) = (known.metadata().clone(), object.metadata());
            known.resource_version == new.resource_version && known.uid == new.uid
        });
        self.inner.write().staged.insert(key);
        if !known {
            self.upsert(object, now, caches, wake);
        }
        Ok(())
    }

    fn finish(&self, version: u64, caches: &Caches, wake: WakeUp<'_>) {
        let gone: Vec<Key> = {
            let mut inner = self.inner.write();
            let staged = std::mem::take(&mut inner.staged);
            inner.seen = inner.seen.max(version);
            let gone = inner.objects.keys().filter(|key| !staged.contains(*key));
            gone.cloned().collect()
        };
        for key in gone {
            self.remove(&key, caches, wake);
        }
        let mut inner = self.inner.write();
        inner.synced = true;
        inner.lists += 1;
    }

    fn delete(&self, key: &Key, version: u64, caches: &Caches, wake: WakeUp<'_>) {
        self.remove(key, caches, wake);
        self.progress(version);
    }

    fn progress(&self, version: u64) {
        let mut inner = self.inner.write();
        inner.seen = inner.seen.max(version);
    }

    fn synced(&self) -> bool {
        self.inner.read().synced
    }

    fn lists(&self) -> u64 {
        self.inner.read().lists
    }

    fn has_seen(&self, written: &Written) -> bool {
        match written {
            Written::At(version) => self.inner.read().seen >= *version,
            Written::Deleted { key, uid } => self.get(key).is_none_or(|object| {
                let meta = object.metadata();
                meta.deletion_timestamp.is_some() || meta.uid.as_deref() != Some(uid)
            }),
        }
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A resourceVersion as the number that it is; 0 when absent.
pub fn version_of(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
