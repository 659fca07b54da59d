//! What the fields of a kind are: types, list kinds, keys, merge rules.
//!
//! One compact graph for everything that walks objects by type: strategic merge, server-side apply, field validation,
//! pruning. It holds no descriptions; documents for people are made from the source when somebody asks (`openapi`).
//! A [`Registry`] builds the graph from JSON schemas, kind by kind, when a kind is first used.

mod parse;
mod registry;
mod validate;

use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::Value;

pub use registry::{Registry, Source};
pub use validate::{
    FieldReport, prune, sort_complaints, strict_error, validate_fields, write_bytes,
};

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any value at all.
    #[default]
    Any,
    /// An object or a map.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or a text, as ports of services are.
    IntOrString,
    /// A quantity of a resource: text or number.
    Quantity,
}

/// What a primitive type is more exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Nothing more is known.
    #[default]
    None,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// RFC 3339 time.
    DateTime,
    /// RFC 3339 time with six digits of a second's fraction.
    MicroTime,
    /// Base64.
    Byte,
}

/// How the elements of a list are told apart when changes are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// They are not: the list is one value.
    #[default]
    Atomic,
    /// By their value.
    Set,
    /// By their key fields.
    Map,
}

/// Whether the fields of an object have owners of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    /// Each field has.
    #[default]
    Granular,
    /// The object is one value.
    Atomic,
}

/// How strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge.
    pub merge: bool,
    /// The value is replaced as a whole.
    pub replace: bool,
    /// Clients send `$retainKeys`.
    pub retain_keys: bool,
}

/// A named definition; empty until the registry fills it in, which allows definitions to refer to each other.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: Box<str>,
    pub(crate) schema: OnceLock<Schema>,
}

/// What is rarely there.
#[derive(Clone, Debug, Default)]
struct Rare {
    list_map_keys: Box<[Box<str>]>,
    merge_key: Option<Box<str>>,
    default: Option<Value>,
    required: Box<[Box<str>]>,
    go_type: Option<Box<str>>,
    go_embedded: Option<Box<str>>,
    go_unset: Option<GoUnset>,
}

/// What Go's encoder makes of a field that is not set.
#[derive(Clone, Debug)]
enum GoUnset {
    LeftOut,
    Written(Value),
}

/// The type of one value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    kind: Kind,
    format: Format,
    list_type: ListType,
    map_type: Option<MapType>,
    strategy: PatchStrategy,
    preserve_unknown: bool,
    embedded_object: bool,
    reference: Option<Arc<Definition>>,
    /// Sorted by name.
    properties: Box<[(Box<str>, Schema)]>,
    items: Option<Box<Schema>>,
    additional: Option<Box<Schema>>,
    rare: Option<Box<Rare>>,
}

/// The type of values nothing is known about: objects are granular, lists are atomic.
static ANY: LazyLock<Schema> = LazyLock::new(Schema::default);

impl Schema {
    /// A schema of values nothing is known about.
    pub fn any() -> &'static Self {
        &ANY
    }

    /// A schema from a JSON schema without references, as custom resource definitions carry them.
    pub fn from_json(json: &Value) -> Self {
        parse::schema(json, &|_| None)
    }

    /// The definition itself where this is a reference.
    pub fn resolved(&self) -> &Self {
        match &self.reference {
            Some(definition) => definition.schema.get().map_or(Self::any(), Self::resolved),
            None => self,
        }
    }

    /// The JSON type.
    pub fn kind(&self) -> Kind {
        self.resolved().kind
    }

    /// What a primitive type is more exactly.
    pub fn format(&self) -> Format {
        self.resolved().format
    }

    /// The named fields, sorted.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Self)> {
        let all = self.resolved().properties.iter();
        all.map(|(name, schema)| (name.as_ref(), schema))
    }

    /// The type of a named field.
    pub fn property(&self, name: &str) -> Option<&Self> {
        let all = &self.resolved().properties;
        let found = all.binary_search_by(|(own, _)| own.as_ref().cmp(name));
        found.ok().map(|index| &all[index].1)
    }

    /// The type of what stands under a key: a named field, a value of a map, anything in a free-form object.
    pub fn child(&self, key: &str) -> Option<&Self> {
        let own = self.resolved();
        let free = || own.is_free_form().then(Self::any);
        self.property(key)
            .or(own.additional.as_deref())
            .or_else(free)
    }

    /// The type of the elements of a list.
    pub fn items(&self) -> Option<&Self> {
        self.resolved().items.as_deref()
    }

    /// The type of the values of a map.
    pub fn additional(&self) -> Option<&Self> {
        self.resolved().additional.as_deref()
    }

    /// Whether fields that are not named here are welcome.
    pub fn is_free_form(&self) -> bool {
        let own = self.resolved();
        let open = matches!(own.kind, Kind::Object | Kind::Any) && own.properties.is_empty();
        own.preserve_unknown || (open && own.additional.is_none())
    }

    /// Whether the value is a whole object with `apiVersion`, `kind` and `metadata`.
    pub fn is_embedded_object(&self) -> bool {
        self.resolved().embedded_object
    }

    /// How elements are told apart.
    pub fn list_type(&self) -> ListType {
        self.resolved().list_type
    }

    /// The fields that tell elements of a [`ListType::Map`] apart.
    pub fn list_map_keys(&self) -> impl Iterator<Item = &str> {
        let rare = self.resolved().rare.as_deref();
        rare.into_iter()
            .flat_map(|r| r.list_map_keys.iter())
            .map(AsRef::as_ref)
    }

    /// Whether the fields have owners of their own; a field's own word counts before its type's.
    pub fn map_type(&self) -> MapType {
        self.map_type
            .or(self.resolved().map_type)
            .unwrap_or_default()
    }

    /// How strategic merge patch treats the field.
    pub fn patch_strategy(&self) -> PatchStrategy {
        self.strategy
    }

    /// The field that tells list elements apart in a strategic merge patch.
    pub fn merge_key(&self) -> Option<&str> {
        self.rare.as_deref()?.merge_key.as_deref()
    }

    /// The value of the field when it is not there.
    pub fn default_value(&self) -> Option<&Value> {
        self.rare.as_deref()?.default.as_ref()
    }

    /// What Go's encoder writes for a field that is not set: structs are always there, and so is what must be.
    pub(crate) fn value_when_unset(&self, name: &str) -> Option<&Value> {
        static NULL: Value = Value::Null;
        let field = self.property(name)?;
        match field
            .rare
            .as_deref()
            .and_then(|rare| rare.go_unset.as_ref())
        {
            Some(GoUnset::LeftOut) => return None,
            Some(GoUnset::Written(zero)) => return Some(zero),
            None => {}
        }
        let is_struct = |v: &&Value| v.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(empty) = field.default_value().filter(is_struct) {
            return Some(empty);
        }
        let required = self.required().any(|r| r == name);
        required.then(|| field.default_value().unwrap_or(&NULL))
    }

    /// The fields with a [`Self::value_when_unset`].
    pub(crate) fn fields_when_unset(&self) -> impl Iterator<Item = &str> {
        let names = self.properties().map(|(name, _)| name);
        names.filter(|name| self.value_when_unset(name).is_some())
    }

    /// The fields that must be there.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        let rare = self.resolved().rare.as_deref();
        rare.into_iter()
            .flat_map(|r| r.required.iter())
            .map(AsRef::as_ref)
    }

    /// The name of the definition, empty for what has none.
    pub fn definition_name(&self) -> &str {
        self.reference.as_deref().map_or("", |d| &d.name)
    }

    /// The types that Go has between the one of the object and this field, which JSON does not show.
    pub(crate) fn go_embedded(&self) -> Option<&str> {
        self.rare.as_deref()?.go_embedded.as_deref()
    }

    /// The type as Go would call it, for messages.
    pub fn type_name(&self) -> String {
        if let Some(name) = self.rare.as_deref().and_then(|r| r.go_type.as_deref()) {
            return name.to_owned();
        }
        if let Some(name) = self.reference.as_deref().map(|d| d.name.as_ref()) {
            match self.kind() {
                Kind::Quantity => return "resource.Quantity".to_owned(),
                Kind::IntOrString => return "intstr.IntOrString".to_owned(),
                _ => {}
            }
            let mut parts = name.rsplit('.');
            let (kind, version) = (parts.next(), parts.next());
            return format!("{}.{}", version.unwrap_or("v1"), kind.unwrap_or(name));
        }
        let inner = |s: Option<&Self>| s.map_or("interface {}".to_owned(), Self::type_name);
        match (self.kind, self.format) {
            (Kind::Any, _) => "interface {}".to_owned(),
            (Kind::Object, _) => format!("map[string]{}", inner(self.additional())),
            (Kind::Array, _) => format!("[]{}", inner(self.items())),
            (Kind::String, Format::Byte) => "[]uint8".to_owned(),
            (Kind::String, _) => "string".to_owned(),
            (Kind::Integer, Format::Int32) => "int32".to_owned(),
            (Kind::Integer, _) => "int64".to_owned(),
            (Kind::Number, _) => "float64".to_owned(),
            (Kind::Boolean, _) => "bool".to_owned(),
            (Kind::IntOrString, _) => "intstr.IntOrString".to_owned(),
            (Kind::Quantity, _) => "resource.Quantity".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
