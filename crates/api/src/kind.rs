//! What the generic request road knows about a kind.
//!
//! A kind implements [`Kind`] over its `k8s-openapi` type; [`Erased`] gives it the object-safe face [`AnyKind`] that the
//! road, discovery and the tests over the whole table read. The object itself stays a tree ([`Object`]): typed structs
//! are views for defaults, validation and columns.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::schema::{FieldReport, Schema, prune, validate_fields, write_bytes};
use machinery::table::{Column, ColumnOf, Row};
use machinery::{ErrorList, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod context;
mod erased;
mod names;
mod rules;
mod says;
mod told;
mod verbs;

pub use context::{Ask, Context, NoServer, Requester, Surroundings};
pub use erased::Erased;
pub use names::{Named, Names, Words, compare_versions};
pub use rules::{
    METADATA_AND_SPEC, NAME_AND_AGE, age, dns_label, dns_subdomain, dns1035_label, keep_metadata,
    keep_other_part, name_and_age, path_segment, set_at, set_or_remove,
};
pub(crate) use told::empty_selector;
pub use verbs::{Dependents, Part, Scope, Subresource, Verb};

/// A kind of the API.
///
/// `prepare_*` work on the tree and never fail; `default` and `validate_*` see the typed view. The road calls, in this
/// order: decode, `default`, admission, `default` again, `prepare_*`, generic metadata rules, `validate_*`, store.
pub trait Kind: Send + Sync + 'static {
    /// The typed view.
    type Object: k8s_openapi::Resource
        + schemars::JsonSchema
        + Serialize
        + DeserializeOwned
        + Clone
        + PartialEq;

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
    /// A change of labels counts for the generation too.
    const GENERATION_COUNTS_LABELS: bool = false;
    /// The fields that a write to the main resource takes no notice of, where those are not just `status`.
    const RESETS: &'static [&'static [&'static str]] = &[&["status"]];
    /// The fields that a write to `status` takes no notice of.
    const STATUS_RESETS: &'static [&'static [&'static str]] = &[&["spec"]];
    /// What becomes of dependents when a delete does not say it.
    const DEPENDENTS: Dependents = Dependents::Deleted;
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
    /// Notes what a first delete leaves to be done before the object may go; true: such a delete marks the object and no
    /// more.
    fn prepare_delete(_context: &Context, _new: &mut Object) -> bool {
        false
    }
    /// Everything wrong with a new object (beyond generic metadata rules).
    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList;
    /// Everything wrong with replacing `old` by `new` through `part`.
    fn validate_update(
        context: &Context,
        part: Part,
        new: &Self::Object,
        old: &Self::Object,
    ) -> ErrorList;
    /// Corrects errors by what the tree says and its view cannot: whether something is empty or not there at all.
    fn correct(_errors: &mut ErrorList, _new: &Object) {}
    /// Reads what Go's decoders take for something else than it says, before anybody has a view of it.
    fn read(_new: &mut Object) {}
    /// Whether [`Kind::warnings`] has anything to say: where a kind is written very often, no view is made for nothing.
    const MAY_WARN: bool = true;
    /// Warnings for the writer of a new object (`Warning` headers).
    fn warnings(_new: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// The parts that [`Kind::update_warnings`] has anything to say about.
    const WARNS_ON: &'static [Part] = &[Part::Main];
    /// Warnings for who replaces `old` by `new` through a part that is warned about.
    fn update_warnings(_part: Part, new: &Self::Object, _old: &Self::Object) -> Vec<String> {
        Self::warnings(new)
    }
    /// Warnings about what a new object looks like before [`Kind::prepare_create`].
    fn unprepared_warnings(_new: &Object) -> Vec<String> {
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
    /// The metadata whose changes count for the generation too: [`Kind::GENERATION_COUNTS_ANNOTATIONS`],
    /// [`Kind::GENERATION_COUNTS_LABELS`].
    fn generation_counts(&self) -> &'static [&'static str] {
        &[]
    }
    /// The fields that a write to a part takes no notice of: [`Kind::RESETS`], [`Kind::STATUS_RESETS`].
    fn resets(&self, part: Part) -> &'static [&'static [&'static str]];
    /// See [`Kind::DEPENDENTS`].
    fn dependents(&self) -> Dependents {
        Dependents::Deleted
    }
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
        if report.lists_bytes {
            write_bytes(&mut value, schema);
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
    fn prepare_delete(&self, context: &Context, new: &mut Object) -> bool;
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
    /// See [`Kind::update_warnings`].
    fn update_warnings(&self, part: Part, new: &Object, old: &Object) -> Vec<String>;
    /// See [`Kind::unprepared_warnings`].
    fn unprepared_warnings(&self, _new: &Object) -> Vec<String> {
        Vec::new()
    }
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
    /// A custom kind in another version of its definition, served or not.
    fn in_version(&self, _api_version: &str) -> Option<KindRef> {
        None
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
