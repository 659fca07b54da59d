//! The resources served: the table of kinds, with the place of each in the store and its watch cache.

use std::sync::Arc;

use api::kind::Names;
use api::{AnyKind, Scope, Subresource, Verb};
use bytes::Bytes;
use machinery::{ApiError, Object, names};
use store::Store;

use crate::cache::{Cache, Follower};

/// One resource.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) kind: &'static dyn AnyKind,
    /// Absent for kinds that are asked and never kept.
    storage: Option<Arc<Storage>>,
}

/// Where objects of a resource are kept. Resources that are the same thing share it.
pub(crate) struct Storage {
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    /// The kind whose encoding is stored.
    pub(crate) kind: &'static dyn AnyKind,
    pub(crate) prefix: String,
    pub(crate) cache: Arc<Cache>,
}

/// All resources.
pub(crate) struct Resources {
    all: Vec<Resource>,
    storages: Vec<Arc<Storage>>,
}

impl Resources {
    /// Makes the resources of the table of kinds. `followers` gives those who follow a stored resource.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        mut followers: impl FnMut(&str, &str) -> Vec<Follower>,
    ) -> Self {
        let mut storages: Vec<Arc<Storage>> = Vec::new();
        for &kind in api::KINDS {
            let names = kind.names();
            if names.stored_as.is_some() || !is_kept(kind) {
                continue;
            }
            let (group, resource) = (names.group, names.plural);
            let prefix = match group {
                "" => format!("/registry/{resource}/"),
                group => format!("/registry/{group}/{resource}/"),
            };
            let followers = followers(group, resource);
            let bytes = Bytes::from(prefix.clone().into_bytes());
            let cache = Arc::new(Cache::new(kind, bytes, store.clone(), followers));
            let storage = Storage {
                group,
                resource,
                kind,
                prefix,
                cache,
            };
            storages.push(Arc::new(storage));
        }
        let all = api::KINDS.iter().map(|&kind| {
            let names = kind.names();
            let place = names.stored_as.unwrap_or((names.group, names.plural));
            let storage = storages.iter().find(|s| (s.group, s.resource) == place);
            Resource {
                kind,
                storage: storage.filter(|_| is_kept(kind)).cloned(),
            }
        });
        Self {
            all: all.collect(),
            storages,
        }
    }

    /// The resource at a path.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        let asked = (group, version, plural);
        self.all
            .iter()
            .find(|r| (r.names().group, r.names().version, r.names().plural) == asked)
    }

    /// Whether a group version is served at all.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        self.all
            .iter()
            .any(|r| r.names().group == group && r.names().version == version)
    }

    /// The place where a resource is kept.
    pub(crate) fn storage(&self, group: &str, resource: &str) -> Option<&Arc<Storage>> {
        self.storages
            .iter()
            .find(|s| s.group == group && s.resource == resource)
    }

    /// Every place.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Arc<Storage>> {
        self.storages.iter()
    }
}

/// Whether objects of a kind are stored.
fn is_kept(kind: &dyn AnyKind) -> bool {
    kind.verbs().contains(&Verb::Get)
}

impl Resource {
    /// The names of the kind.
    pub(crate) fn names(&self) -> &'static Names {
        self.kind.names()
    }

    /// Whether objects live in namespaces.
    pub(crate) fn is_namespaced(&self) -> bool {
        self.kind.scope() == Scope::Namespaced
    }

    /// The sub-resource of this name.
    pub(crate) fn subresource(&self, name: &str) -> Option<Subresource> {
        self.kind
            .subresources()
            .iter()
            .copied()
            .find(|s| s.name() == name)
    }

    /// The place of the objects.
    ///
    /// # Errors
    /// 405: the kind is asked and never kept.
    pub(crate) fn storage(&self, action: &str) -> Result<&Arc<Storage>, ApiError> {
        let names = self.names();
        let refused = || ApiError::method_not_supported(names.group, names.plural, action);
        self.storage.as_ref().ok_or_else(refused)
    }

    /// Whether the kind is stored in the encoding of another.
    pub(crate) fn is_converted(&self) -> bool {
        self.names().stored_as.is_some()
    }

    /// The storage key below the prefix, made of valid names only.
    ///
    /// # Errors
    /// 400: a name that could lead somewhere else.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> Result<String, ApiError> {
        let check = |what: &str, value: &str| {
            let problems = names::path_segment_name(value);
            if value.is_empty() || !problems.is_empty() {
                let problems = if value.is_empty() {
                    names::EMPTY.to_owned()
                } else {
                    problems.join(";")
                };
                let why = format!("{what} parameter invalid: {value:?}: {problems}");
                return Err(ApiError::bad_request(why));
            }
            Ok(())
        };
        if !self.is_namespaced() {
            check("Name", name)?;
            return Ok(name.to_owned());
        }
        if namespace.is_empty() {
            return Err(ApiError::bad_request("Namespace parameter required."));
        }
        check("Namespace", namespace)?;
        check("Name", name)?;
        Ok(format!("{namespace}/{name}"))
    }

    /// 404 for an object of this resource.
    pub(crate) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.names().group, self.names().plural, name)
    }

    /// 409 for an object of this resource.
    pub(crate) fn conflict(&self, name: &str, why: impl std::fmt::Display) -> ApiError {
        ApiError::conflict(self.names().group, self.names().plural, name, why)
    }

    /// The object as this resource shows it.
    pub(crate) fn present(&self, mut object: Object) -> Object {
        if self.is_converted() {
            self.kind.from_stored(&mut object);
        }
        object
    }
}

impl Storage {
    /// The whole key of a key below the prefix.
    pub(crate) fn full_key(&self, key: &str) -> Bytes {
        Bytes::from([self.prefix.as_bytes(), key.as_bytes()].concat())
    }
}
