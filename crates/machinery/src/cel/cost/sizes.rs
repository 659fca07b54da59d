//! How large the values of a schema may be: what does not say so is bounded by the size of a request.

use serde_json::Value;

use crate::structural::{Additional, Structural, Type};

/// The largest request.
const REQUEST: i64 = 3 * 1024 * 1024;

/// Whether expressions see values of a schema at all.
pub(super) fn is_declared(schema: &Structural) -> bool {
    if schema.int_or_string {
        return true;
    }
    match (&schema.kind, &schema.additional) {
        (Type::Any, _) => false,
        (Type::Array, _) => schema.items.as_deref().is_some_and(is_declared),
        (Type::Object, Some(Additional::Schema(values))) => is_declared(values),
        _ => true,
    }
}

fn format(schema: &Structural) -> &str {
    schema.rare.as_deref().map_or("", |r| &r.format)
}

/// The length of the shortest JSON for a value.
fn least(schema: &Structural) -> i64 {
    if schema.int_or_string {
        return 1;
    }
    match schema.kind {
        Type::Array => 2,
        Type::Object => match &schema.additional {
            Some(Additional::Schema(_)) => 2,
            _ => 2 + required(schema),
        },
        Type::String => match format(schema) {
            "duration" => 3,
            "date" => 12,
            "date-time" => 21,
            _ => 2,
        },
        Type::Boolean => 4,
        Type::Integer | Type::Number => 1,
        Type::Any => 0,
    }
}

/// What the required fields of an object take.
fn required(schema: &Structural) -> i64 {
    let names = schema.rare.iter().flat_map(|r| &r.required);
    let fields = names.filter_map(|name| Some((name, schema.properties.get(name)?)));
    let given = fields.filter(|(_, f)| f.default_value().is_none() && is_declared(f));
    given
        .map(|(name, f)| i64::try_from(name.len()).unwrap_or(0) + least(f) + 4)
        .sum()
}

/// The most elements or letters that a value may have.
pub(super) fn elements(schema: &Structural) -> u64 {
    let rare = schema.rare.as_deref();
    let length = rare.and_then(|r| r.max_length);
    let most = if schema.int_or_string {
        length.map_or(REQUEST - 2, |n| n.max(0).saturating_mul(4))
    } else {
        match schema.kind {
            Type::Array => {
                let given = rare.and_then(|r| r.max_items).map(|n| n.max(0));
                let smallest = schema.items.as_deref().map_or(0, least);
                given.unwrap_or((REQUEST - 2) / (smallest + 1))
            }
            Type::Object => match &schema.additional {
                Some(Additional::Schema(values)) => {
                    let given = rare.and_then(|r| r.max_properties).map(|n| n.max(0));
                    given.unwrap_or((REQUEST - 2) / (least(values) + 6))
                }
                _ => 0,
            },
            Type::String => match format(schema) {
                "duration" => 32,
                "date" => 12,
                "date-time" => 32,
                "byte" => length.map_or(REQUEST - 2, |n| n.max(0)),
                _ => match (length, rare.map_or(&[][..], |r| &r.one_of_values)) {
                    (Some(n), _) => n.max(0).saturating_mul(4),
                    (None, []) => REQUEST - 2,
                    (None, values) => {
                        let lengths = values.iter().filter_map(Value::as_str).map(str::len);
                        i64::try_from(lengths.max().unwrap_or(0)).unwrap_or(i64::MAX)
                    }
                },
            },
            _ => 0,
        }
    };
    most.unsigned_abs()
}

/// How often values of a schema may be there in one request, where nothing above bounds that.
pub fn cardinality(schema: &Structural) -> u64 {
    (REQUEST / (least(schema) + 1)).unsigned_abs()
}
