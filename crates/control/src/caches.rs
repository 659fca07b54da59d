//! All caches of a process: one store per kind, shared by every controller, and the metadata of everything.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use crate::meta::{MetaKind, MetaMapper, MetaStore};
use crate::resource::{Key, Kind, Resource};
use crate::store::{Indexer, Mapper, Store, Trim};

/// Called for every item that a change concerns: the controller's number and the item.
pub type WakeUp<'a> = &'a mut dyn FnMut(usize, Key);

/// Something that a controller wrote and that its cache must show before it decides again (KEP-5647).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A write that left the kind at this resourceVersion.
    At(u64),
    /// A deletion of this object.
    Deleted {
        /// Its key.
        key: Key,
        /// Its UID.
        uid: String,
    },
}

/// A store of some kind, as the watch loop sees it: text in, wake-ups out.
pub trait AnyStore: Send + Sync {
    /// The kind.
    fn resource(&self) -> &Resource;
    /// Whether the watch may ask for metadata only.
    fn metadata_only(&self) -> bool;
    /// An object was added or changed.
    ///
    /// # Errors
    /// The text is no object of this kind.
    fn apply(
        &self,
        raw: &str,
        now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error>;
    /// An object of a list that is being read.
    ///
    /// # Errors
    /// The text is no object of this kind.
    fn stage(
        &self,
        raw: &str,
        now: Timestamp,
        caches: &Caches,
        wake: WakeUp<'_>,
    ) -> Result<(), serde_json::Error>;
    /// The list is complete: what was not staged is gone.
    fn finish(&self, version: u64, caches: &Caches, wake: WakeUp<'_>);
    /// An object was deleted.
    fn delete(&self, key: &Key, version: u64, caches: &Caches, wake: WakeUp<'_>);
    /// The watch has come this far.
    fn progress(&self, version: u64);
    /// Whether a list has been read completely.
    fn synced(&self) -> bool;
    /// How many lists have been read.
    fn lists(&self) -> u64;
    /// Whether a write of our own has arrived.
    fn has_seen(&self, written: &Written) -> bool;
    /// Number of objects.
    fn count(&self) -> usize;
    /// For the way back to the typed store.
    fn as_any(&self) -> &dyn Any;
}

/// A kind that discovery has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The kind.
    pub resource: Resource,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

impl Discovered {
    /// Whether it has the verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// All caches. Typed stores are declared before the start, metadata kinds come and go with discovery.
#[derive(Default)]
pub struct Caches {
    stores: BTreeMap<Resource, Arc<dyn AnyStore>>,
    /// The metadata of all objects of all kinds, once somebody asked for it.
    pub meta: MetaStore,
    meta_kinds: RwLock<BTreeMap<Resource, Arc<MetaKind>>>,
    catalog: RwLock<Arc<Vec<Discovered>>>,
}

impl Caches {
    /// No caches.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of a kind, made when missing.
    pub fn declare<K: Kind>(&mut self) -> &Store<K> {
        let resource = Resource::of::<K>();
        let store = self
            .stores
            .entry(resource)
            .or_insert_with(|| Arc::new(Store::<K>::new()));
        let store = store.as_any().downcast_ref::<Store<K>>();
        store.expect("one type per resource")
    }

    /// The store of a declared kind.
    ///
    /// # Panics
    /// The kind was not declared in `wake`: a mistake in the controller.
    pub fn of<K: Kind>(&self) -> &Store<K> {
        self.stores
            .get(&Resource::of::<K>())
            .and_then(|store| store.as_any().downcast_ref())
            .unwrap_or_else(|| panic!("{} is read but not declared in wake", K::KIND))
    }

    /// The declared typed stores.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<dyn AnyStore>> {
        self.stores.values()
    }

    /// The typed or metadata store of a resource.
    pub fn find(&self, resource: &Resource) -> Option<Arc<dyn AnyStore>> {
        if let Some(store) = self.stores.get(resource) {
            return Some(Arc::clone(store));
        }
        let kinds = self.meta_kinds.read();
        kinds
            .get(resource)
            .map(|kind| Arc::clone(kind) as Arc<dyn AnyStore>)
    }

    /// The kinds that discovery has found.
    pub fn catalog(&self) -> Arc<Vec<Discovered>> {
        Arc::clone(&self.catalog.read())
    }

    /// Takes over a new catalog. Events are never watched: nobody owns them, and there are many. Returns the metadata kinds to begin and those to end watching.
    pub fn set_catalog(&self, found: Vec<Discovered>) -> (Vec<Arc<MetaKind>>, Vec<Resource>) {
        let watchable = |d: &&Discovered| {
            d.can("list")
                && d.can("watch")
                && d.can("delete")
                && d.resource.plural != "events"
                && !self.stores.keys().any(|r| r.same_resource(&d.resource))
        };
        let wanted: Vec<Resource> = found
            .iter()
            .filter(watchable)
            .map(|d| d.resource.clone())
            .collect();
        *self.catalog.write() = Arc::new(found);
        if !self.meta.enabled() {
            return (Vec::new(), Vec::new());
        }
        let mut kinds = self.meta_kinds.write();
        let gone: Vec<Resource> = kinds
            .keys()
            .filter(|r| !wanted.contains(r))
            .cloned()
            .collect();
        for resource in &gone {
            kinds.remove(resource);
        }
        let mut fresh = Vec::new();
        for resource in wanted {
            if let Entry::Vacant(slot) = kinds.entry(resource) {
                let kind = Arc::new(MetaKind::new(slot.key().clone()));
                slot.insert(Arc::clone(&kind));
                fresh.push(kind);
            }
        }
        (fresh, gone)
    }

    /// Whether discovery has been read and all that was declared or discovered as well.
    pub fn everything_synced(&self) -> bool {
        !self.catalog.read().is_empty()
            && self.stores.values().all(|s| s.synced())
            && self.meta_kinds.read().values().all(|s| s.synced())
    }
}

/// What a controller declares before it runs.
pub struct Wake<'a> {
    caches: &'a mut Caches,
    controller: usize,
    needs: Needs,
}

/// The caches that a controller reads.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Typed kinds.
    pub kinds: Vec<Resource>,
    /// The metadata of everything.
    pub meta: bool,
}

impl Needs {
    /// Whether all of it has been read once.
    pub fn are_synced(&self, caches: &Caches) -> bool {
        let synced = |r: &Resource| caches.stores.get(r).is_some_and(|store| store.synced());
        self.kinds.iter().all(synced) && (!self.meta || caches.everything_synced())
    }
}

impl<'a> Wake<'a> {
    /// For the controller with this number.
    pub fn new(caches: &'a mut Caches, controller: usize) -> Self {
        Self {
            caches,
            controller,
            needs: Needs::default(),
        }
    }

    /// What was declared.
    pub fn finish(self) -> Needs {
        self.needs
    }

    fn store<K: Kind>(&mut self) -> &Store<K> {
        let resource = Resource::of::<K>();
        if !self.needs.kinds.contains(&resource) {
            self.needs.kinds.push(resource);
        }
        self.caches.declare::<K>()
    }

    /// Changes of this kind wake the items that `mapper` names.
    pub fn on<K: Kind>(&mut self, mapper: Mapper<K>) -> &mut Self {
        let controller = self.controller;
        self.store::<K>().subscribe(controller, mapper);
        self
    }

    /// Every change of an object of this kind wakes the item of the same name.
    pub fn on_root<K: Kind>(&mut self) -> &mut Self {
        self.on::<K>(|change, _| vec![Key::of(change.latest())])
    }

    /// This kind is read, but its changes wake nobody.
    pub fn reads<K: Kind>(&mut self) -> &mut Self {
        self.store::<K>();
        self
    }

    /// An index over a kind.
    pub fn index<K: Kind>(&mut self, name: &'static str, values: Indexer<K>) -> &mut Self {
        self.store::<K>().index(name, values);
        self
    }

    /// Only part of every object of this kind is kept; it must be the part that all controllers of the process read.
    pub fn trim<K: Kind>(&mut self, trim: Trim<K>) -> &mut Self {
        self.store::<K>().trim(trim);
        self
    }

    /// Changes in the metadata of any object wake the items that `mapper` names.
    pub fn on_meta(&mut self, mapper: MetaMapper) -> &mut Self {
        self.needs.meta = true;
        self.caches.meta.subscribe(self.controller, mapper);
        self
    }
}
