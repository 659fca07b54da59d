//! The custom resources: what the definitions of the moment are served as.
//!
//! Contract: a definition that is established is found under its paths as soon as a write that made it so is answered; one
//! that is gone is not found any more. A changed definition gets new kinds and a new cache, and ends the watches of the old one.
//! The table is swapped as a whole; a reader takes no lock. [`settle`] decides names and conditions and empties what is
//! deleted.

pub(crate) mod convert;
pub(crate) mod settle;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::apiextensions::custom::Definition;
use arc_swap::ArcSwap;
use machinery::{ApiError, Object};
use serde_json::Value;
use store::{EventKind, Store};
use tokio_util::sync::CancellationToken;

use crate::cache::Change;
use crate::call::Call;
use crate::resource::{Resource, Storage};

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// The resource of definitions.
pub(crate) const RESOURCE: &str = "customresourcedefinitions";

/// All custom resources.
pub(crate) struct CustomResources {
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    /// By `plural.group`, the name of the definition.
    entries: ArcSwap<HashMap<Box<str>, Arc<Entry>>>,
    /// Counts the changes of the table.
    serial: AtomicU64,
}

/// One definition.
struct Entry {
    /// What its kinds depend on.
    source: Box<str>,
    /// The number of the change that made it.
    serial: u64,
    storage: Arc<Storage>,
    served: Vec<Resource>,
}

impl CustomResources {
    /// None yet.
    pub(crate) fn new(store: Arc<dyn Store>, shutdown: CancellationToken) -> Self {
        Self {
            store,
            shutdown,
            entries: ArcSwap::default(),
            serial: AtomicU64::new(0),
        }
    }

    /// The resource at a path.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Resource> {
        let entries = self.entries.load();
        let entry = entries.get(format!("{plural}.{group}").as_str())?;
        let found = entry.served.iter().find(|r| r.is(group, version, plural));
        found.cloned()
    }

    /// All that are served, in no order.
    pub(crate) fn all(&self) -> Vec<Resource> {
        let entries = self.entries.load();
        let served = entries.values().flat_map(|entry| entry.served.iter());
        served.cloned().collect()
    }

    /// The place where objects of a definition are kept, and how to reach them: a served version, best the stored one.
    pub(crate) fn of_definition(&self, name: &str) -> Option<(Arc<Storage>, Option<Resource>)> {
        let entries = self.entries.load();
        let entry = entries.get(name)?;
        let stored = entry.served.iter().find(|r| !r.is_converted());
        let found = stored.or(entry.served.first()).cloned();
        Some((entry.storage.clone(), found))
    }

    /// What tells whether a document of all is still that of before.
    pub(crate) fn serials(&self) -> Vec<u64> {
        let entries = self.entries.load();
        let mut serials: Vec<u64> = entries.values().map(|entry| entry.serial).collect();
        serials.sort_unstable();
        serials
    }

    /// What tells whether the documents of a group version are still those of before; none when it has nothing custom.
    pub(crate) fn fingerprint(&self, group: &str, version: &str) -> Option<String> {
        let entries = self.entries.load();
        let fits = |r: &Resource| r.names().group == group && r.names().version == version;
        let mut found: Vec<(&str, u64)> = entries
            .iter()
            .filter(|(_, entry)| entry.served.iter().any(fits))
            .map(|(name, entry)| (&**name, entry.serial))
            .collect();
        found.sort_unstable();
        (!found.is_empty()).then(|| format!("{found:?}"))
    }

    /// Follows the definitions.
    pub(crate) fn apply(&self, change: &Change) {
        let name = change.object.name();
        let object = match change.kind {
            EventKind::Put => change.object.decode(),
            EventKind::Delete => None,
        };
        let source = object.as_ref().map(source_of);
        let entries = self.entries.load();
        let old = entries.get(name);
        if old.is_some() && old.map(|o| &*o.source) == source.as_deref() {
            return;
        }
        let new = object.as_ref().and_then(Definition::read);
        if new.is_none() && old.is_none() {
            return;
        }
        let mut next = HashMap::clone(&entries);
        if let Some(old) = next.remove(name) {
            old.storage.closed.cancel();
        }
        if let Some(definition) = new {
            let entry = self.entry(&definition, source.unwrap_or_default());
            next.insert(name.into(), Arc::new(entry));
        }
        self.entries.store(Arc::new(next));
    }

    fn entry(&self, definition: &Arc<Definition>, source: Box<str>) -> Entry {
        let storage = Storage {
            converter: convert::Converter::of(definition),
            ..Storage::new(definition.stored(), &self.store, Vec::new())
        };
        let storage = Arc::new(storage);
        self.feed(storage.clone());
        let served = definition.served().into_iter();
        Entry {
            source,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            served: served
                .map(|kind| Resource::custom(kind, storage.clone()))
                .collect(),
            storage,
        }
    }

    /// Fills a cache and keeps it up to date until it is closed.
    fn feed(&self, storage: Arc<Storage>) {
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let closed = storage.closed.clone();
            let work = async {
                let watch = match storage.cache.load().await {
                    Ok(watch) => watch,
                    Err(error) => {
                        tracing::error!(%error, resource = %storage.resource, "custom objects cannot be read");
                        return;
                    }
                };
                storage.loaded.send_replace(true);
                storage.cache.clone().follow(watch).await;
            };
            tokio::select! {
                () = work => {}
                () = closed.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

/// Waits until every definition that is stored is served.
///
/// # Errors
/// The cache of definitions is late.
pub(crate) async fn wait_fresh(call: &Call) -> Result<(), ApiError> {
    match call.server.resources().storage(GROUP, RESOURCE) {
        Some(definitions) => definitions.cache.wait_fresh().await,
        None => Ok(()),
    }
}

/// The parts of a definition that its kinds are made of.
fn source_of(definition: &Object) -> Box<str> {
    let at = |path: &[&str]| definition.at(path).unwrap_or(&Value::Null).to_string();
    let mut source = at(&["spec"]);
    source.push_str(&at(&["status", "acceptedNames"]));
    source.push_str(definition.uid());
    let naming = api::apiextensions::customresourcedefinition::naming::is_true;
    for condition in ["Established", "Terminating"] {
        source.push(if naming(definition, condition) {
            '+'
        } else {
            '-'
        });
    }
    // Only compared: a hash is as good and takes no room.
    let digest = <sha2::Sha256 as sha2::Digest>::digest(source.as_bytes());
    digest
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>()
        .into()
}
