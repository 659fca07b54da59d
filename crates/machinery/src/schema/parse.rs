//! From JSON schema to [`Schema`].

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Definition, Format, GoUnset, Kind, ListType, MapType, PatchStrategy, Rare, Schema};

pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<Arc<Definition>>;

/// Reads one schema node; `lookup` gives the definition that a reference names.
pub(super) fn schema(json: &Value, lookup: Lookup<'_>) -> Schema {
    let Value::Object(json) = json else {
        return Schema::default();
    };
    let text = |key: &str| json.get(key).and_then(Value::as_str);
    let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let reference = text("$ref")
        .and_then(|r| r.rsplit('/').next())
        .and_then(lookup);
    let int_or_string = flag("x-kubernetes-int-or-string");
    let strategy = text("x-kubernetes-patch-strategy").unwrap_or_default();
    let has = |word: &str| strategy.split(',').any(|s| s == word);
    Schema {
        kind: kind(json, int_or_string),
        format: match text("format") {
            Some("int32") => Format::Int32,
            Some("int64") => Format::Int64,
            Some("date-time") => Format::DateTime,
            Some("byte") => Format::Byte,
            _ => Format::None,
        },
        list_type: match text("x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        },
        map_type: match text("x-kubernetes-map-type") {
            Some("atomic") => Some(MapType::Atomic),
            Some("granular") => Some(MapType::Granular),
            _ => None,
        },
        strategy: PatchStrategy {
            merge: has("merge"),
            replace: has("replace"),
            retain_keys: has("retainKeys"),
        },
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields")
            || json.get("additionalProperties") == Some(&Value::Bool(true)),
        embedded_object: flag("x-kubernetes-embedded-resource"),
        reference,
        properties: properties(json, lookup),
        items: boxed(json.get("items"), lookup),
        additional: boxed(json.get("additionalProperties"), lookup),
        rare: rare(json),
    }
}

fn kind(json: &Map<String, Value>, int_or_string: bool) -> Kind {
    if int_or_string {
        return Kind::IntOrString;
    }
    let word = match json.get("type") {
        Some(Value::String(word)) => Some(word.as_str()),
        // JSON schema writes a nullable type as a list.
        Some(Value::Array(words)) => words
            .iter()
            .filter_map(Value::as_str)
            .find(|word| *word != "null"),
        _ => None,
    };
    match word {
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ if json.contains_key("properties") => Kind::Object,
        _ => Kind::Any,
    }
}

fn boxed(json: Option<&Value>, lookup: Lookup<'_>) -> Option<Box<Schema>> {
    let json = json.filter(|j| j.is_object())?;
    Some(Box::new(schema(json, lookup)))
}

fn properties(json: &Map<String, Value>, lookup: Lookup<'_>) -> Box<[(Box<str>, Schema)]> {
    let all = json.get("properties").and_then(Value::as_object);
    let all = all.into_iter().flatten();
    let all = all.map(|(name, json)| (name.as_str().into(), schema(json, lookup)));
    let mut all: Vec<(Box<str>, Schema)> = all.collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into()
}

fn rare(json: &Map<String, Value>) -> Option<Box<Rare>> {
    let words = |key: &str| -> Box<[Box<str>]> {
        let list = json.get(key).and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.map(Box::from).collect()
    };
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(Box::from);
    let rare = Rare {
        list_map_keys: words("x-kubernetes-list-map-keys"),
        merge_key: json
            .get("x-kubernetes-patch-merge-key")
            .and_then(Value::as_str)
            .map(Box::from),
        default: json.get("default").cloned(),
        required: words("required"),
        go_type: text("x-go-type"),
        go_embedded: text("x-go-embedded"),
        go_unset: go_unset(json),
    };
    let empty = rare.list_map_keys.is_empty()
        && rare.merge_key.is_none()
        && rare.default.is_none()
        && rare.required.is_empty()
        && rare.go_type.is_none()
        && rare.go_embedded.is_none()
        && rare.go_unset.is_none();
    (!empty).then(|| Box::new(rare))
}

fn go_unset(json: &Map<String, Value>) -> Option<GoUnset> {
    let zero = json.get("x-go-unset")?.as_str()?;
    Some(match serde_json::from_str(zero) {
        Ok(zero) => GoUnset::Written(zero),
        Err(_) => GoUnset::LeftOut,
    })
}

/// Definitions whose JSON schema does not say what they are to those who merge.
pub(super) fn adjust(name: &str, schema: &mut Schema) {
    match name.rsplit('.').next() {
        Some("Quantity") if name.ends_with(".api.resource.Quantity") => {
            schema.kind = Kind::Quantity;
        }
        Some("MicroTime") => schema.format = Format::MicroTime,
        Some("RawExtension") => {
            schema.kind = Kind::Any;
            schema.map_type = Some(MapType::Atomic);
            schema.preserve_unknown = true;
        }
        // Types with a decoder of their own, which takes more than the schema says.
        Some(
            "JSON"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrStringArray",
        ) => {
            *schema = Schema {
                preserve_unknown: true,
                map_type: Some(MapType::Atomic),
                ..Schema::default()
            };
        }
        _ => {}
    }
}
