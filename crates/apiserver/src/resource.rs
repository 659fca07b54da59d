//! The resources served: the table of kinds, with the place of each in the store and its watch cache.

use std::collections::HashMap;
use std::sync::Arc;

use api::kind::{Named, compare_versions};
use api::{AnyKind, KindRef, Scope, Subresource, Verb};
use bytes::Bytes;
use machinery::{ApiError, Object, names};
use store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Follower};
use crate::custom::CustomResources;
use crate::custom::convert::Converter;
use crate::server::Server;

/// One resource.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) kind: KindRef,
    /// Absent for kinds that are never kept.
    storage: Option<Arc<Storage>>,
}

/// Where objects of a resource are kept. Resources that are the same thing share it.
pub(crate) struct Storage {
    pub(crate) group: Box<str>,
    pub(crate) resource: Box<str>,
    /// The kind whose encoding is stored.
    pub(crate) kind: KindRef,
    pub(crate) prefix: String,
    pub(crate) cache: Arc<Cache>,
    /// True when the cache has been read.
    pub(crate) loaded: watch::Sender<bool>,
    /// Cancelled when nothing is kept here any more: the custom kind is another one now.
    pub(crate) closed: CancellationToken,
    /// Who brings objects to other versions, where that takes more than a change of names.
    pub(crate) converter: Option<Converter>,
}

/// All resources: those of the program, and custom ones, which come and go.
pub(crate) struct Resources {
    fixed: Vec<Resource>,
    storages: Vec<Arc<Storage>>,
    /// Where in those two lists the resources of a plural name are.
    named: HashMap<&'static str, Places>,
    custom: Arc<CustomResources>,
}

/// Places in the lists of [`Resources`].
#[derive(Default)]
struct Places {
    fixed: Vec<usize>,
    storages: Vec<usize>,
}

impl Resources {
    /// Makes the resources of the table of kinds. `followers` gives those who follow a stored resource.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        custom: Arc<CustomResources>,
        mut followers: impl FnMut(&str, &str) -> Vec<Follower>,
    ) -> Self {
        let mut storages: Vec<Arc<Storage>> = Vec::new();
        for &kind in api::KINDS {
            let names = kind.names();
            if names.stored_as.is_some() || !is_kept(kind) {
                continue;
            }
            let followers = followers(names.group, names.plural);
            let storage = Storage::new(KindRef::Fixed(kind), store, followers);
            storages.push(Arc::new(storage));
        }
        let fixed = api::KINDS.iter().map(|&kind| {
            let names = kind.names();
            let place = names.stored_as.unwrap_or((names.group, names.plural));
            let storage = storages.iter().find(|s| s.is(place.0, place.1));
            Resource {
                kind: KindRef::Fixed(kind),
                storage: storage.filter(|_| is_kept(kind)).cloned(),
            }
        });
        let fixed: Vec<_> = fixed.collect();
        let mut named: HashMap<&'static str, Places> = HashMap::new();
        for (at, kind) in api::KINDS.iter().enumerate() {
            named.entry(kind.names().plural).or_default().fixed.push(at);
        }
        for (at, storage) in storages.iter().enumerate() {
            let places = named.get_mut(&*storage.resource);
            places.into_iter().for_each(|p| p.storages.push(at));
        }
        Self {
            fixed,
            storages,
            named,
            custom,
        }
    }

    /// The resource at a path. A custom kind never hides one of the program.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Resource> {
        let places = self.named.get(plural).map(|p| &*p.fixed);
        let mut candidates = places.unwrap_or_default().iter().map(|at| &self.fixed[*at]);
        let found = candidates.find(|r| r.is(group, version, plural));
        found
            .cloned()
            .or_else(|| self.custom.get(group, version, plural))
    }

    /// Every resource: those of the program in the order of their table, then the custom ones by group, best versions first.
    pub(crate) fn all(&self) -> Vec<Resource> {
        let mut custom = self.custom.all();
        custom.sort_by(|a, b| {
            let (a, b) = (a.names(), b.names());
            let by_version = compare_versions(a.version, b.version);
            a.group
                .cmp(b.group)
                .then(by_version)
                .then(a.plural.cmp(b.plural))
        });
        self.fixed.iter().cloned().chain(custom).collect()
    }

    /// Whether a group version is served at all.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        let fits = |r: &Resource| r.names().group == group && r.names().version == version;
        self.fixed.iter().any(fits) || self.custom.all().iter().any(fits)
    }

    /// The place where a resource of the program is kept.
    pub(crate) fn storage(&self, group: &str, resource: &str) -> Option<&Arc<Storage>> {
        let places = &self.named.get(resource)?.storages;
        let mut candidates = places.iter().map(|at| &self.storages[*at]);
        candidates.find(|s| s.is(group, resource))
    }

    /// The same objects under other names that have this sub-resource (empty: the objects themselves).
    pub(crate) fn equivalents(&self, of: &Resource, subresource: &str) -> Vec<Resource> {
        let Some(storage) = &of.storage else {
            return Vec::new();
        };
        let own = of.names();
        let custom = self.custom.all();
        let others = self.fixed.iter().chain(&custom).filter(|other| {
            let names = other.names();
            let same_place = other
                .storage
                .as_ref()
                .is_some_and(|s| Arc::ptr_eq(s, storage));
            same_place
                && (names.group, names.version) != (own.group, own.version)
                && (subresource.is_empty() || other.subresource(subresource).is_some())
        });
        others.cloned().collect()
    }

    /// Every place of the program's resources.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Arc<Storage>> {
        self.storages.iter()
    }

    /// The custom ones.
    pub(crate) fn custom(&self) -> &Arc<CustomResources> {
        &self.custom
    }
}

/// Whether objects of a kind are stored: only those can be watched.
fn is_kept(kind: &dyn AnyKind) -> bool {
    kind.verbs().contains(&Verb::Watch)
}

impl Resource {
    /// A custom resource.
    pub(crate) fn custom(kind: KindRef, storage: Arc<Storage>) -> Self {
        let storage = Some(storage);
        Self { kind, storage }
    }

    /// What is only a body of sub-resources.
    pub(crate) fn body(kind: &str) -> Option<Self> {
        let mut bodies = api::BODIES.iter();
        let kind = *bodies.find(|body| body.names().kind == kind)?;
        let kind = KindRef::Fixed(kind);
        let storage = None;
        Some(Self { kind, storage })
    }

    /// The names of the kind.
    pub(crate) fn names(&self) -> Named<'_> {
        self.kind.names()
    }

    /// Whether it is found under this path.
    pub(crate) fn is(&self, group: &str, version: &str, plural: &str) -> bool {
        let names = self.names();
        (names.group, names.version, names.plural) == (group, version, plural)
    }

    /// Whether objects are stored.
    pub(crate) fn is_kept(&self) -> bool {
        self.storage.is_some()
    }

    /// Waits until the cache has been read: that of a custom kind is, soon after the kind came up.
    pub(crate) async fn ready(&self) {
        if let Some(storage) = &self.storage {
            // It is read or the server ends.
            let _ = storage.loaded.subscribe().wait_for(|loaded| *loaded).await;
        }
    }

    /// The kind in whose form objects are stored.
    pub(crate) fn stored_kind(&self) -> Option<&KindRef> {
        self.storage.as_ref().map(|s| &s.kind)
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
        let refused = || {
            let names = self.names();
            ApiError::method_not_supported(names.group, names.plural, action)
        };
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

    /// Who brings objects to the version of this resource, where somebody has to be asked.
    pub(crate) fn converter(&self) -> Option<&Converter> {
        self.storage.as_ref()?.converter.as_ref()
    }

    /// A stored object as this resource shows it, as far as that can be said without asking anybody.
    pub(crate) fn in_own_form(&self, mut object: Object) -> Object {
        if self.is_converted() || self.kind.may_be_outdated() {
            self.kind.from_stored(&mut object);
        }
        object
    }

    /// A stored object as this resource shows it.
    ///
    /// # Errors
    /// It is not converted.
    pub(crate) async fn present(
        &self,
        server: &Server,
        object: Object,
    ) -> Result<Object, ApiError> {
        let object = self.in_own_form(object);
        match self.converter() {
            None => Ok(object),
            Some(converter) => {
                let shown = converter.convert(server, vec![object], &self.kind).await?;
                Ok(shown.into_iter().next().unwrap_or_default())
            }
        }
    }

    /// An object of this resource as it is stored.
    ///
    /// # Errors
    /// It is not converted.
    pub(crate) async fn as_stored(
        &self,
        server: &Server,
        mut object: Object,
    ) -> Result<Object, ApiError> {
        let Some(storage) = self.storage.as_ref().filter(|_| self.is_converted()) else {
            return Ok(object);
        };
        if let Some(converter) = &storage.converter {
            let stored = converter
                .convert(server, vec![object], &storage.kind)
                .await?;
            return Ok(stored.into_iter().next().unwrap_or_default());
        }
        self.kind.to_stored(&mut object);
        let names = storage.kind.names();
        object.set_type(&names.api_version(), names.kind);
        Ok(object)
    }
}

impl Storage {
    /// The place of a kind, with a cache that has not been read yet.
    pub(crate) fn new(kind: KindRef, store: &Arc<dyn Store>, followers: Vec<Follower>) -> Self {
        let (group, resource) = {
            let names = kind.names();
            (Box::from(names.group), Box::from(names.plural))
        };
        let prefix = match &*group {
            "" => format!("/registry/{resource}/"),
            group => format!("/registry/{group}/{resource}/"),
        };
        let bytes = Bytes::from(prefix.clone().into_bytes());
        let cache = Arc::new(Cache::new(kind.clone(), bytes, store.clone(), followers));
        Self {
            group,
            resource,
            kind,
            prefix,
            cache,
            loaded: watch::Sender::new(false),
            closed: CancellationToken::new(),
            converter: None,
        }
    }

    fn is(&self, group: &str, resource: &str) -> bool {
        *self.group == *group && *self.resource == *resource
    }

    /// The whole key of a key below the prefix.
    pub(crate) fn full_key(&self, key: &str) -> Bytes {
        Bytes::from([self.prefix.as_bytes(), key.as_bytes()].concat())
    }
}
