//! What the generic request road knows about a kind.
//!
//! A kind implements [`Kind`] over its `k8s-openapi` type; [`Erased`] gives it the object-safe face [`AnyKind`] that the
//! road, discovery and the tests over the whole table read. The object itself stays a tree ([`Object`]): typed structs
//! are views for defaults, validation and columns.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::schema::{FieldReport, Schema, prune, validate_fields};
use machinery::table::{Column, ColumnOf, Row};
use machinery::{ErrorList, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod erased;

pub use erased::Erased;

/// A list of words that is either written in the program or owned by a custom kind.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// Written in the program.
    Fixed(&'a [&'a str]),
    /// Owned by a custom kind.
    Owned(&'a [Box<str>]),
}

impl<'a> Words<'a> {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (fixed, owned): (&'a [&'a str], &'a [Box<str>]) = match self {
            Self::Fixed(words) => (words, &[]),
            Self::Owned(words) => (&[], words),
        };
        fixed
            .iter()
            .copied()
            .chain(owned.iter().map(|word| &**word))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether this word is among them.
    pub fn contains(self, word: &str) -> bool {
        self.iter().any(|own| own == word)
    }
}

impl PartialEq for Words<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Words<'_> {}

impl Serialize for Words<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The names of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Served version.
    pub version: &'a str,
    /// Kind in CamelCase.
    pub kind: &'a str,
    /// The kind of lists; empty: the kind's name and `List`.
    pub list_kind: &'a str,
    /// Plural resource name.
    pub plural: &'a str,
    /// Singular resource name.
    pub singular: &'a str,
    /// Short names for `kubectl`.
    pub short: Words<'a>,
    /// Categories, for example `all`.
    pub categories: Words<'a>,
    /// Group and resource under which objects are stored, when another kind is the same thing
    /// (`events.k8s.io` Events are stored as core Events, every version of a custom kind as its storage version); `None`
    /// is its own.
    pub stored_as: Option<(&'a str, &'a str)>,
}

/// The names of a kind that is written in the program.
pub type Names = Named<'static>;

impl<'a> Named<'a> {
    /// A kind without short names and categories.
    pub const fn new(
        group: &'a str,
        version: &'a str,
        kind: &'a str,
        plural: &'a str,
        singular: &'a str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            list_kind: "",
            plural,
            singular,
            short: Words::Fixed(&[]),
            categories: Words::Fixed(&[]),
            stored_as: None,
        }
    }

    /// With these short names.
    #[must_use]
    pub const fn short(self, short: &'a [&'a str]) -> Self {
        Self {
            short: Words::Fixed(short),
            ..self
        }
    }

    /// In the category `all`.
    #[must_use]
    pub const fn in_all(self) -> Self {
        Self {
            categories: Words::Fixed(&["all"]),
            ..self
        }
    }

    /// In the category `api-extensions`.
    #[must_use]
    pub const fn in_api_extensions(self) -> Self {
        Self {
            categories: Words::Fixed(&["api-extensions"]),
            ..self
        }
    }

    /// The kind of lists.
    pub fn list_kind(&self) -> std::borrow::Cow<'a, str> {
        match self.list_kind {
            "" => format!("{}List", self.kind).into(),
            own => own.into(),
        }
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The order of versions: the stable ones first, the newest of them first (`v2`, `v1`, `v1beta2`, `v1alpha1`), then
/// whatever else there is by name.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    /// Stability, major and minor number.
    fn parse(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let (stability, minor) = match &rest[end..] {
            "" => return Some((2, major, 0)),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor),
                (None, Some(minor)) => (0, minor),
                (None, None) => return None,
            },
        };
        let minor = if minor.is_empty() { "0" } else { minor };
        Some((stability, major, minor.parse().ok()?))
    }
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One per cluster and name.
    Cluster,
    /// One per namespace and name.
    Namespaced,
}

/// The verbs of discovery and authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `create`
    Create,
    /// `delete`
    Delete,
    /// `deletecollection`
    DeleteCollection,
    /// `get`
    Get,
    /// `list`
    List,
    /// `patch`
    Patch,
    /// `update`
    Update,
    /// `watch`
    Watch,
}

impl Verb {
    /// The verbs of an ordinary persisted kind, in discovery order.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];
    /// The verbs of a review: asked by `create`, never kept.
    pub const CREATE_ONLY: &'static [Self] = &[Self::Create];
    /// The verbs of what is found out when somebody asks, and never kept.
    pub const READ_ONLY: &'static [Self] = &[Self::Get, Self::List];

    /// The verb's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A sub-resource of a kind, as discovery lists it and as the road serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// Part of the object with an update rule of its own: `status`, `ephemeralcontainers`, `resize`, `finalize`.
    Part(Part),
    /// `scale`, mapped on these fields of the object; those of a custom kind stand in [`AnyKind::scale`].
    Scale {
        /// Path of the wanted replicas.
        spec_replicas: &'static [&'static str],
        /// Path of the observed replicas.
        status_replicas: &'static [&'static str],
        /// Path of the selector: a `LabelSelector` or a plain map.
        selector: &'static [&'static str],
    },
    /// `binding`: assigns a pod to a node.
    Binding,
    /// `eviction`: deletes a pod if disruption budgets allow.
    Eviction,
    /// `token`: issues a service-account token.
    Token,
    /// `log`
    Log,
    /// `exec`
    Exec,
    /// `attach`
    Attach,
    /// `portforward`
    PortForward,
    /// `proxy`: HTTP to the object itself.
    Proxy,
}

impl Subresource {
    /// The path segment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Part(part) => part.name(),
            Self::Scale { .. } => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Token => "token",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
        }
    }
}

/// Which part of an object a write may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The main resource: everything but what has a part of its own.
    Main,
    /// `status`
    Status,
    /// `ephemeralcontainers` of a pod
    EphemeralContainers,
    /// `resize` of a pod
    Resize,
    /// `finalize` of a namespace
    Finalize,
    /// `approval` of a certificate signing request
    Approval,
}

impl Part {
    /// The path segment; empty for the main resource.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }
}

/// Who asks, beyond the name.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// Tells apart users of one name over time.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// What else the requester would have to be allowed, for a decision that depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What stands before the verb of the request, as `arbitrary-node:`.
    pub verb_prefix: &'a str,
    /// A sub-resource of the resource of the request; it need not exist.
    pub subresource: &'a str,
    /// In the namespace of the request; otherwise in all of them.
    pub namespaced: bool,
    /// The object's name; empty: all.
    pub name: &'a str,
}

/// What a decision about an object may ask of the server. Answers come from memory.
pub trait Surroundings: Send + Sync {
    /// The verb of the request.
    fn verb(&self) -> &str;
    /// A label of a namespace.
    fn namespace_label(&self, namespace: &str, label: &str) -> Option<String>;
    /// Whether the requester may do something else as well.
    ///
    /// # Errors
    /// The words of the refusal.
    fn may(&self, ask: Ask<'_>) -> Result<(), String>;
    /// Whether the requester has this right on a signer of certificates, or on all of its domain.
    fn may_for_signer(&self, verb: &str, signer: &str) -> bool;
}

/// No server around: objects that are looked at outside of one, such as pods that a kubelet reads from files.
#[derive(Clone, Copy, Debug)]
pub struct NoServer;

impl Surroundings for NoServer {
    fn verb(&self) -> &str {
        "create"
    }

    fn namespace_label(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn may(&self, _: Ask<'_>) -> Result<(), String> {
        Err("there is no API server to ask".to_owned())
    }

    fn may_for_signer(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// What a decision about an object may know beyond the object.
#[derive(Clone)]
pub struct Context {
    /// The time of the request.
    pub now: Timestamp,
    /// Who asks (a user name), for kinds that note it.
    pub user: String,
    /// What else is known of who asks.
    pub requester: Requester,
    /// The server around the decision.
    pub surroundings: Arc<dyn Surroundings>,
}

/// A kind of the API.
///
/// `prepare_*` work on the tree and never fail; `default` and `validate_*` see the typed view. The road calls, in this
/// order: decode, `default`, admission, `default` again, `prepare_*`, generic metadata rules, `validate_*`, store.
pub trait Kind: Send + Sync + 'static {
    /// The typed view.
    type Object: k8s_openapi::Resource + schemars::JsonSchema + Serialize + DeserializeOwned;

    /// All names.
    const NAMES: Names;
    /// Scope.
    const SCOPE: Scope;
    /// Verbs of the main resource.
    const VERBS: &'static [Verb] = Verb::ALL;
    /// Sub-resources.
    const SUBRESOURCES: &'static [Subresource] = &[];
    /// Columns of `get`.
    const COLUMNS: &'static [Column] = crate::kind::NAME_AND_AGE;
    /// `metadata.generation` counts changes of everything outside metadata and status.
    const HAS_GENERATION: bool = false;
    /// A change of annotations counts for the generation too, as those of a Deployment are copied to its ReplicaSets.
    const GENERATION_COUNTS_ANNOTATIONS: bool = false;
    /// A delete that does not say what becomes of dependents orphans them (a ReplicationController).
    const ORPHANS_BY_DEFAULT: bool = false;
    /// Seconds a delete waits for the owner of the object (pods: 30) when the request says nothing; `None`: deletes at once.
    fn grace_period_seconds(_object: &Object) -> Option<i64> {
        None
    }
    /// Seconds a delete waits when the request asks for `requested`; 0: the object goes at once, whatever was asked.
    fn grace_period(object: &Object, requested: Option<i64>) -> Option<i64> {
        Self::grace_period_seconds(object).map(|own| requested.unwrap_or(own))
    }
    /// PUT of an object that does not exist creates it.
    const CREATE_ON_UPDATE: bool = false;
    /// An update without resourceVersion overwrites whatever is there.
    const UNCONDITIONAL_UPDATE: bool = true;

    /// DELETE answers with the object that was removed instead of a `Status`.
    const RETURNS_DELETED: bool = false;
    /// A warning for whoever uses the kind at all.
    const DEPRECATION: Option<&'static str> = None;

    /// Turns an object as it is stored into this kind, for kinds that are stored as another one.
    fn from_stored(_object: &mut Object) {}
    /// Turns an object of this kind into the one that is stored.
    fn to_stored(_object: &mut Object) {}
    /// Fills unset fields only; idempotent.
    fn default(_object: &mut Self::Object) {}
    /// Clears what a creator may not set (status), sets what the server owns.
    fn prepare_create(_context: &Context, _new: &mut Object) {}
    /// Puts back from `old` what a write to `part` may not touch. The provided version keeps `status` on a write to the
    /// main resource, and keeps everything but `status` on a write to `status`.
    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        keep_other_part(part, new, old);
    }
    /// Notes what a delete leaves to be done before the object may go.
    fn prepare_delete(_context: &Context, _new: &mut Object) {}
    /// Everything wrong with a new object (beyond generic metadata rules).
    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList;
    /// Everything wrong with replacing `old` by `new` through `part`.
    fn validate_update(
        context: &Context,
        part: Part,
        new: &Self::Object,
        old: &Self::Object,
    ) -> ErrorList;
    /// Warnings for the writer (`Warning` headers).
    fn warnings(_new: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// How a name is validated; the provided rule is a DNS sub-domain. Returns messages.
    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        crate::kind::dns_subdomain(name, prefix)
    }
    /// Fields that field selectors may name beyond `metadata.name` and `metadata.namespace`.
    fn selectable_fields(_object: &Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The names alone of [`Kind::selectable_fields`].
    const SELECTABLE: &'static [&'static str] = &[];
    /// What the stored form calls a selectable field, where it has another name there.
    fn stored_field(_field: &str) -> Option<&'static str> {
        None
    }
    /// One row of `get`; `object` is the typed view.
    fn row(object: &Self::Object, tree: &Object, now: Timestamp) -> Row {
        let _ = object;
        name_and_age(tree, now)
    }
    /// Marks in the rows of a list what only all of them together say (which class is the default one).
    fn mark_rows(_objects: &[Object], _rows: &mut [Row]) {}
}

/// The object-safe face of a [`Kind`].
pub trait AnyKind: Send + Sync {
    /// See [`Kind::NAMES`].
    fn names(&self) -> Named<'_>;
    /// See [`Kind::SCOPE`].
    fn scope(&self) -> Scope;
    /// See [`Kind::VERBS`].
    fn verbs(&self) -> &'static [Verb];
    /// See [`Kind::SUBRESOURCES`].
    fn subresources(&self) -> &'static [Subresource];
    /// See [`Kind::COLUMNS`].
    fn columns(&self) -> Vec<ColumnOf<'_>>;
    /// Where `scale` reads and writes.
    fn scale(&self) -> Option<ScalePaths>;
    /// See [`Kind::HAS_GENERATION`].
    fn has_generation(&self) -> bool;
    /// See [`Kind::GENERATION_COUNTS_ANNOTATIONS`].
    fn generation_counts_annotations(&self) -> bool;
    /// See [`Kind::ORPHANS_BY_DEFAULT`].
    fn orphans_by_default(&self) -> bool;
    /// See [`Kind::grace_period_seconds`].
    fn grace_period_seconds(&self, object: &Object) -> Option<i64>;
    /// See [`Kind::grace_period`].
    fn grace_period(&self, object: &Object, requested: Option<i64>) -> Option<i64>;
    /// See [`Kind::CREATE_ON_UPDATE`].
    fn create_on_update(&self) -> bool;
    /// See [`Kind::UNCONDITIONAL_UPDATE`].
    fn unconditional_update(&self) -> bool;
    /// See [`Kind::RETURNS_DELETED`].
    fn returns_deleted(&self) -> bool;
    /// See [`Kind::from_stored`].
    #[expect(
        clippy::wrong_self_convention,
        reason = "the object comes from the store, not the kind"
    )]
    fn from_stored(&self, object: &mut Object);
    /// See [`Kind::to_stored`].
    fn to_stored(&self, object: &mut Object);
    /// Whether stored bytes may be of a form that [`AnyKind::from_stored`] would change: a custom kind's definition may
    /// have changed since.
    fn may_be_outdated(&self) -> bool {
        false
    }
    /// Whether a null is a value and not the absence of one.
    fn keeps_nulls(&self) -> bool {
        false
    }
    /// Whether a strategic merge patch can be applied.
    fn merges_strategically(&self) -> bool {
        true
    }
    /// What is wrong with the fields of an object, before it is looked at as its kind; a custom kind drops the fields that
    /// it does not have.
    fn check_fields(&self, object: &mut Object, duplicates: &[String]) -> FieldReport {
        let schema = self.schema();
        let mut value = Value::Object(std::mem::take(&mut object.0));
        let schema = schema.as_ref().unwrap_or(Schema::any());
        let report = validate_fields(&value, schema, duplicates);
        // What nobody knows is not kept.
        if !report.unknown.is_empty() {
            prune(&mut value, schema);
        }
        if let Value::Object(tree) = value {
            object.0 = tree;
        }
        report
    }
    /// The schema that merges and field checks walk.
    fn schema(&self) -> Option<Schema> {
        let names = self.names();
        crate::schema::of_kind(names.group, names.version, names.kind)
    }
    /// Fills unset fields of the tree.
    ///
    /// # Errors
    /// The tree does not have the kind's shape.
    fn default(&self, object: &mut Object) -> Result<(), serde_json::Error>;
    /// See [`Kind::prepare_create`].
    fn prepare_create(&self, context: &Context, new: &mut Object);
    /// See [`Kind::prepare_update`].
    fn prepare_update(&self, context: &Context, part: Part, new: &mut Object, old: &Object);
    /// See [`Kind::prepare_delete`].
    fn prepare_delete(&self, context: &Context, new: &mut Object);
    /// See [`Kind::validate_create`].
    ///
    /// # Errors
    /// The tree does not have the kind's shape.
    fn validate_create(
        &self,
        context: &Context,
        new: &Object,
    ) -> Result<ErrorList, serde_json::Error>;
    /// See [`Kind::validate_update`].
    ///
    /// # Errors
    /// A tree does not have the kind's shape.
    fn validate_update(
        &self,
        context: &Context,
        part: Part,
        new: &Object,
        old: &Object,
    ) -> Result<ErrorList, serde_json::Error>;
    /// See [`Kind::warnings`].
    fn warnings(&self, new: &Object) -> Vec<String>;
    /// See [`Kind::validate_name`].
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;
    /// See [`Kind::selectable_fields`].
    fn selectable_fields(&self, object: &Object) -> Vec<(Cow<'static, str>, String)>;
    /// See [`Kind::SELECTABLE`].
    fn selectable(&self) -> Words<'_>;
    /// See [`Kind::stored_field`].
    fn stored_field(&self, _field: &str) -> Option<&'static str> {
        None
    }
    /// See [`Kind::row`]; an object without the kind's shape shows its name and age.
    fn row(&self, object: &Object, now: Timestamp) -> Row;
    /// See [`Kind::mark_rows`].
    fn mark_rows(&self, _objects: &[Object], _rows: &mut [Row]) {}
    /// The name of the kind's schema definition, for example `io.k8s.api.apps.v1.Deployment`.
    fn schema_name(&self) -> String;
    /// The OpenAPI schema of a kind that brings its own; it may refer to the definitions of the program.
    fn openapi_schema(&self) -> Option<Value> {
        None
    }
    /// Why nothing can be created now, if so.
    fn refuses_create(&self) -> Option<&'static str> {
        None
    }
    /// Whether somebody else has to be asked to bring objects to other versions. [`AnyKind::from_stored`] then leaves them in
    /// the version that they were stored in.
    fn converts_elsewhere(&self) -> bool {
        false
    }
    /// A warning for whoever asks for this version.
    fn deprecation(&self) -> Option<String> {
        None
    }
}

/// A kind of either origin.
#[derive(Clone)]
pub enum KindRef {
    /// Written in the program.
    Fixed(&'static dyn AnyKind),
    /// Defined by a CustomResourceDefinition.
    Custom(Arc<dyn AnyKind>),
}

impl std::ops::Deref for KindRef {
    type Target = dyn AnyKind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Fixed(kind) => *kind,
            Self::Custom(kind) => &**kind,
        }
    }
}

/// The fields that `scale` is mapped on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalePaths {
    /// Path of the wanted replicas.
    pub spec_replicas: Vec<Box<str>>,
    /// Path of the observed replicas.
    pub status_replicas: Vec<Box<str>>,
    /// Path of the selector; empty when there is none.
    pub selector: Vec<Box<str>>,
}

/// Keeps `status` on a write to the main resource and everything else on a write to `status`.
pub fn keep_other_part(part: Part, new: &mut Object, old: &Object) {
    match part {
        Part::Status => {
            let status = new.0.remove("status");
            let metadata = new.0.remove("metadata");
            new.0.clone_from(&old.0);
            set_or_remove(new, "status", status);
            // A status write may carry metadata changes that generic rules sort out (labels are kept, finalizers too).
            set_or_remove(new, "metadata", metadata);
        }
        _ => set_or_remove(new, "status", old.0.get("status").cloned()),
    }
}

/// Puts the metadata of clients back, for writes to `status` that change nothing of it.
pub fn keep_metadata(new: &mut Object, old: &Object) {
    let own = [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ];
    for key in own {
        let value = old.metadata().and_then(|m| m.get(key)).cloned();
        set_at(new, &["metadata"], key, value);
    }
}

/// Sets or removes one top-level field.
pub fn set_or_remove(object: &mut Object, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(object.0.insert(key.into(), value)),
        None => drop(object.0.remove(key)),
    }
}

/// Sets or removes one field of the object at `path`, which is made only to hold a value.
pub fn set_at(object: &mut Object, path: &[&str], key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(object.object_at_mut(path).insert(key.into(), value)),
        None if object.at(path).is_some_and(Value::is_object) => {
            object.object_at_mut(path).remove(key);
        }
        None => {}
    }
}

/// The columns of kinds that have none of their own.
pub const NAME_AND_AGE: &[Column] = &[crate::columns::NAME, crate::columns::AGE];

/// Name and age.
pub fn name_and_age(object: &Object, now: Timestamp) -> Row {
    Row::from(vec![object.name().into(), age(object, now).into()])
}

/// The AGE column: `<unknown>` without a creation time.
pub fn age(object: &Object, now: Timestamp) -> String {
    crate::columns::since(object.meta_str("creationTimestamp").parse().ok(), now)
}

/// The provided rule for names: a DNS sub-domain. `prefix`: the name is a `generateName`.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1123_subdomain(&masked(name, prefix))
}

/// A name that must be one DNS label.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1123_label(&masked(name, prefix))
}

/// A name that must be one DNS label and start with a letter.
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1035_label(&masked(name, prefix))
}

/// A name that need only be safe in a path, as those of roles.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        machinery::names::path_segment_prefix(name)
    } else {
        machinery::names::path_segment_name(name)
    }
}

/// A prefix may end in a dash: something will be appended to it.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let mut end = rest.len() - 1;
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}a", &rest[..end]).into()
        }
        _ => name.into(),
    }
}
