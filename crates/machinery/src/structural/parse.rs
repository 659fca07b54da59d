//! From JSON to [`Structural`].

use serde_json::{Map, Value};

use super::{Additional, Pattern, Rare, Rule, Structural, Type};
use crate::schema::{Format, Kind, ListType, Schema};

impl Structural {
    /// Reads a schema; what is no schema says nothing.
    pub fn read(json: &Value) -> Self {
        let Value::Object(json) = json else {
            return Self::default();
        };
        let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or("");
        let properties = json.get("properties").and_then(Value::as_object);
        let properties = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str().into(), Self::read(schema)));
        Self {
            kind: match text("type") {
                "object" => Type::Object,
                "array" => Type::Array,
                "string" => Type::String,
                "integer" => Type::Integer,
                "number" => Type::Number,
                "boolean" => Type::Boolean,
                _ => Type::Any,
            },
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            list_type: match text("x-kubernetes-list-type") {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            },
            atomic_map: text("x-kubernetes-map-type") == "atomic",
            properties: properties.collect(),
            additional: match json.get("additionalProperties") {
                Some(Value::Bool(allowed)) => Some(Additional::Bool(*allowed)),
                Some(schema @ Value::Object(_)) => {
                    Some(Additional::Schema(Box::new(Self::read(schema))))
                }
                _ => None,
            },
            items: one(json, "items"),
            rare: rare(json),
        }
    }
}

/// Deeper than any kind is that does not contain itself.
const DEPTH: usize = 40;

impl Structural {
    /// What expressions see of a kind of the program; none when it contains itself.
    pub fn of_schema(schema: &Schema) -> Option<Self> {
        Self::below(schema, DEPTH)
    }

    fn below(schema: &Schema, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let format = match schema.format() {
            Format::DateTime | Format::MicroTime => "date-time",
            Format::Byte => "byte",
            _ => "",
        };
        let mut own = Self {
            kind: match schema.kind() {
                Kind::Object => Type::Object,
                Kind::Array => Type::Array,
                Kind::String => Type::String,
                Kind::Integer => Type::Integer,
                Kind::Number => Type::Number,
                Kind::Boolean => Type::Boolean,
                Kind::Any | Kind::IntOrString | Kind::Quantity => Type::Any,
            },
            int_or_string: matches!(schema.kind(), Kind::IntOrString | Kind::Quantity),
            list_type: schema.list_type(),
            rare: (!format.is_empty()).then(|| {
                Box::new(Rare {
                    format: format.into(),
                    ..Rare::default()
                })
            }),
            ..Self::default()
        };
        for (name, field) in schema.properties() {
            own.properties
                .insert(name.into(), Self::below(field, depth)?);
        }
        if let Some(items) = schema.items() {
            own.items = Some(Box::new(Self::below(items, depth)?));
        }
        if let Some(values) = schema.additional() {
            let values = Self::below(values, depth)?;
            own.additional = Some(Additional::Schema(Box::new(values)));
        }
        own.preserve_unknown = schema.is_free_form();
        Some(own)
    }
}

fn one(json: &Map<String, Value>, key: &str) -> Option<Box<Structural>> {
    let found = json.get(key).filter(|v| v.is_object())?;
    Some(Box::new(Structural::read(found)))
}

fn rare(json: &Map<String, Value>) -> Option<Box<Rare>> {
    const KEYS: [&str; 21] = [
        "default",
        "x-kubernetes-list-map-keys",
        "format",
        "maximum",
        "minimum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "required",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    let rules = array(json, "x-kubernetes-validations")
        .filter_map(rule)
        .collect::<Vec<_>>();
    if rules.is_empty() && !KEYS.iter().any(|key| json.contains_key(*key)) {
        return None;
    }
    let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or("");
    let integer = |key: &str| json.get(key).and_then(Value::as_i64);
    let number = |key: &str| json.get(key).and_then(Value::as_number).cloned();
    let words = |key: &str| {
        let words = array(json, key).filter_map(Value::as_str);
        words.map(Box::from).collect::<Vec<Box<str>>>()
    };
    let schemas = |key: &str| array(json, key).map(Structural::read).collect();
    let pattern = Some(text("pattern")).filter(|p| !p.is_empty());
    Some(Box::new(Rare {
        default: json.get("default").filter(|d| !d.is_null()).cloned(),
        list_map_keys: words("x-kubernetes-list-map-keys"),
        format: text("format").into(),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: integer("maxLength"),
        min_length: integer("minLength"),
        pattern: pattern.map(Pattern::new),
        max_items: integer("maxItems"),
        min_items: integer("minItems"),
        max_properties: integer("maxProperties"),
        min_properties: integer("minProperties"),
        required: words("required"),
        one_of_values: array(json, "enum").cloned().collect(),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: one(json, "not"),
        rules,
    }))
}

fn array<'a>(json: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    json.get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn rule(json: &Value) -> Option<Rule> {
    let text = |key: &str| {
        json.get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    json.is_object().then(|| Rule {
        rule: text("rule"),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: json
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned),
        field_path: text("fieldPath"),
        optional_old_self: json.get("optionalOldSelf").and_then(Value::as_bool),
        compiled: std::sync::OnceLock::new(),
    })
}
