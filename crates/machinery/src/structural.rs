//! Structural schemas: what a CustomResourceDefinition says about its objects, and what follows from it.
//!
//! A [`Structural`] is read once from JSON ([`Structural::read`]) and then prunes ([`prune`]), fills defaults
//! ([`fill_defaults`]) and checks values ([`validate`], [`list_duplicates`]). It does not check whether the schema itself is a
//! good one: that is the definition's validation, in `api`.
//! Behaviour: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema`.

mod defaults;
mod formats;
mod lists;
mod parse;
mod prune;
mod rules;
mod validate;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Number, Value};

use crate::re2;

pub use defaults::{drop_nulls, fill_defaults};
pub(crate) use formats::fits as has_format;
pub use formats::is_known as is_known_format;
pub use lists::list_duplicates;
pub use prune::prune;
pub use rules::{CompiledRule, check_rules, has_rules};
pub use validate::validate;

use crate::schema::ListType;

/// The fields that every object has, whatever its schema says.
pub const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A type of the schema language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Not said.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

/// What may stand under keys that have no property.
#[derive(Clone, Debug)]
pub enum Additional {
    /// Anything (`true`) or nothing (`false`).
    Bool(bool),
    /// Values of this schema.
    Schema(Box<Structural>),
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// The type.
    pub kind: Type,
    /// Null is a value.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-list-type`
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`
    pub atomic_map: bool,
    /// The named fields.
    pub properties: BTreeMap<Box<str>, Structural>,
    /// What else may be there.
    pub additional: Option<Additional>,
    /// The elements of a list.
    pub items: Option<Box<Structural>>,
    /// What is rarely there.
    pub rare: Option<Box<Rare>>,
}

/// The parts of a node that most do not have.
#[derive(Clone, Debug, Default)]
pub struct Rare {
    /// `default`
    pub default: Option<Value>,
    /// `x-kubernetes-list-map-keys`
    pub list_map_keys: Vec<Box<str>>,
    /// `format`
    pub format: Box<str>,
    /// `maximum`
    pub maximum: Option<Number>,
    /// `exclusiveMaximum`
    pub exclusive_maximum: bool,
    /// `minimum`
    pub minimum: Option<Number>,
    /// `exclusiveMinimum`
    pub exclusive_minimum: bool,
    /// `multipleOf`
    pub multiple_of: Option<Number>,
    /// `maxLength`
    pub max_length: Option<i64>,
    /// `minLength`
    pub min_length: Option<i64>,
    /// `pattern`
    pub pattern: Option<Pattern>,
    /// `maxItems`
    pub max_items: Option<i64>,
    /// `minItems`
    pub min_items: Option<i64>,
    /// `maxProperties`
    pub max_properties: Option<i64>,
    /// `minProperties`
    pub min_properties: Option<i64>,
    /// `required`
    pub required: Vec<Box<str>>,
    /// `enum`
    pub one_of_values: Vec<Value>,
    /// `allOf`
    pub all_of: Vec<Structural>,
    /// `anyOf`
    pub any_of: Vec<Structural>,
    /// `oneOf`
    pub one_of: Vec<Structural>,
    /// `not`
    pub not: Option<Box<Structural>>,
    /// `x-kubernetes-validations`
    pub rules: Vec<Rule>,
}

/// One rule of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What must be true.
    pub rule: String,
    /// What is said when it is not.
    pub message: String,
    /// An expression for what is said.
    pub message_expression: String,
    /// The reason of the error.
    pub reason: Option<String>,
    /// The field that is named as wrong.
    pub field_path: String,
    /// `oldSelf` is optional and the rule is checked without one too.
    pub optional_old_self: Option<bool>,
    compiled: OnceLock<Box<Result<CompiledRule, String>>>,
}

/// A regular expression, compiled when it is first used.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    /// As it was written.
    pub text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// A pattern that is not compiled yet.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    fn matches(&self, text: &str) -> Option<bool> {
        let compiled = self.compiled.get_or_init(|| re2::compile(&self.text).ok());
        compiled.as_ref().map(|regex| regex.is_match(text))
    }
}

impl Structural {
    /// The default of the node.
    pub fn default_value(&self) -> Option<&Value> {
        self.rare.as_deref()?.default.as_ref()
    }

    /// The fields that tell elements of a list map apart.
    pub fn list_map_keys(&self) -> &[Box<str>] {
        self.rare.as_deref().map_or(&[], |r| &r.list_map_keys)
    }

    /// The rules of the node.
    pub fn rules(&self) -> &[Rule] {
        self.rare.as_deref().map_or(&[], |r| &r.rules)
    }

    /// Gives whole objects (the root, and those embedded) the fields that rules may look at in every object.
    pub fn add_meta(&mut self, root: bool) {
        self.properties.values_mut().for_each(|p| p.add_meta(false));
        self.items.iter_mut().for_each(|i| i.add_meta(false));
        if let Some(Additional::Schema(additional)) = &mut self.additional {
            additional.add_meta(false);
        }
        if !root && !self.embedded {
            return;
        }
        let of = |kind| Self {
            kind,
            ..Self::default()
        };
        for key in ["apiVersion", "kind"] {
            let own = self.properties.entry(key.into());
            own.or_insert_with(|| of(Type::String));
        }
        let metadata = self.properties.entry("metadata".into());
        let metadata = metadata.or_insert_with(|| of(Type::Object));
        for key in ["name", "generateName"] {
            let own = metadata.properties.entry(key.into());
            own.or_insert_with(|| of(Type::String));
        }
    }

    /// The schema of the value under a key.
    pub fn child(&self, key: &str) -> Option<&Self> {
        match (self.properties.get(key), &self.additional) {
            (Some(property), _) => Some(property),
            (None, Some(Additional::Schema(schema))) => Some(schema),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests;
