//! Everything that the answer is drawn from.

use std::collections::BTreeMap;

use control::{Caches, Key, Kind, Resource};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// One object and what kind it is of.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind.
    pub resource: Resource,
    /// The object.
    pub object: Value,
}

impl Item {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        let text = |name: &str| {
            let value = self.object["metadata"][name].as_str();
            value.unwrap_or_default().to_owned()
        };
        Key::new(text("namespace"), text("name"))
    }

    /// Its UID, empty when it has none.
    pub fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> ObjectMeta {
        serde_json::from_value(self.object["metadata"].clone()).unwrap_or_default()
    }
}

/// The subject and the objects around it at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The object that is asked about.
    pub subject: Item,
    /// The objects that [`crate::needs`] named.
    pub around: Vec<Item>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
    /// The moment.
    pub now: Timestamp,
}

impl Picture {
    /// The subject as a typed object; an object that does not fit its type gives the empty one.
    pub(crate) fn subject_as<K: Kind + Default>(&self) -> K {
        serde_json::from_value(self.subject.object.clone()).unwrap_or_default()
    }

    /// The objects of a kind; those that do not fit its type are left out.
    pub(crate) fn of<K: Kind>(&self) -> Vec<K> {
        let resource = Resource::of::<K>();
        self.items()
            .filter(|item| item.resource.same_resource(&resource))
            .filter_map(|item| serde_json::from_value(item.object.clone()).ok())
            .collect()
    }

    /// The subject and everything around it, each once.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        let subject = &self.subject;
        let same = move |item: &&Item| {
            item.resource.same_resource(&subject.resource) && item.key() == subject.key()
        };
        std::iter::once(subject).chain(self.around.iter().filter(move |item| !same(item)))
    }

    /// The same picture with another subject, of a typed kind.
    pub(crate) fn about<K: Kind>(&self, object: &K) -> Self {
        let around = self.items().cloned().collect();
        Self {
            subject: Item {
                resource: Resource::of::<K>(),
                object: control::plan::to_value(object),
            },
            around,
            unread: Vec::new(),
            now: self.now,
        }
    }

    /// Fills caches with what is in the picture.
    pub(crate) fn fill(&self, caches: &Caches) {
        let mut nobody = |_, _| {};
        let stores: BTreeMap<_, _> = caches
            .stores()
            .map(|s| (s.resource().to_string(), s))
            .collect();
        for item in self.items() {
            if let Some(store) = stores.get(&item.resource.to_string()) {
                // An object that its type does not fit is invisible to the controller as well.
                let _ = store.apply(&item.object.to_string(), self.now, caches, &mut nobody);
            }
        }
    }
}
