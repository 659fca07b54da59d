//! Does a value keep to its schema; the wording of `k8s.io/kube-openapi/pkg/validation`.
//!
//! What an update leaves as it was is not looked at (ratcheting, KEP-4008): values of the old object are followed by field
//! name and, in list maps, by key.

use serde_json::{Number, Value};

use super::{Additional, Rare, Structural, Type, formats};
use crate::field::{ErrorType, FieldError};
use crate::schema::ListType;
use crate::value::same;
use crate::{ErrorList, Path};

/// Everything wrong with `value`, which stands at `at` (empty: it is the whole object) and was `old` before.
pub fn validate(value: &Value, old: Option<&Value>, schema: &Structural, at: &Path) -> ErrorList {
    let mut found = Found::default();
    node(value, old, schema, "", &mut found);
    let base = at.to_string();
    let mut errors = ErrorList::new();
    for (path, mut error) in found.errors {
        let path = path.strip_prefix('.').unwrap_or(&path).to_owned();
        error.path = match (base.is_empty(), path.is_empty()) {
            (true, true) => Path::new("<nil>"),
            (true, false) => Path::new(&path),
            (false, true) => at.clone(),
            (false, false) => at.child(&path),
        };
        errors.0.push(error);
    }
    errors
}

/// No object has more to say against it.
const MAX_ERRORS: usize = 1000;

#[derive(Default)]
struct Found {
    errors: Vec<(String, FieldError)>,
    /// How much was right: among alternatives that all fail, the best one is told.
    matches: usize,
}

impl Found {
    fn push(&mut self, path: &str, kind: ErrorType, value: Option<Value>, detail: String) {
        if self.errors.len() < MAX_ERRORS {
            let error = FieldError {
                kind,
                path: Path::default(),
                value,
                shown: None,
                detail,
            };
            self.errors.push((path.to_owned(), error));
        }
    }

    fn invalid(&mut self, path: &str, value: impl Into<Value>, detail: String) {
        self.push(path, ErrorType::Invalid, Some(value.into()), detail);
    }

    /// An error about the value as a whole has no path of its own.
    fn whole(&mut self, detail: String) {
        self.push("", ErrorType::Invalid, Some("".into()), detail);
    }

    fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        self.errors.extend(other.errors);
    }
}

fn node(value: &Value, old: Option<&Value>, schema: &Structural, path: &str, found: &mut Found) {
    if old.is_some_and(|old| same(old, value)) {
        found.matches += 1;
        return;
    }
    let before = found.errors.len();
    check_type(value, schema, path, found);
    let rare = schema.rare.as_deref();
    if value.is_null() {
        if let Some(rare) = rare {
            enumeration(value, rare, path, found);
        }
        return;
    }
    if let Some(rare) = rare {
        junctors(value, rare, path, found);
        match value {
            Value::String(text) => string(text, schema, rare, path, found),
            Value::Number(number) => numbers(number, schema, rare, path, found),
            _ => {}
        }
    }
    if let Value::Array(items) = value {
        list(items, old, schema, path, found);
    }
    if let Some(rare) = rare {
        enumeration(value, rare, path, found);
    }
    if let Value::Object(_) = value {
        object(value, old, schema, path, found);
    }
    found.matches += usize::from(found.errors.len() == before);
}

fn type_name(schema: &Structural) -> &'static str {
    match schema.kind {
        _ if schema.int_or_string => "integer,string",
        Type::Any => "",
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    }
}

fn actual(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(value: &Value, schema: &Structural, path: &str, found: &mut Found) {
    let (wanted, actual) = (type_name(schema), actual(value));
    if wanted.is_empty() || (value.is_null() && schema.nullable) {
        return;
    }
    let whole = value.as_f64().is_some_and(|f| f.fract() == 0.0);
    let fits = wanted.split(',').any(|w| {
        w == actual
            || (w == "integer" && actual == "number" && whole)
            || (w == "number" && actual == "integer")
    });
    if !fits {
        let detail = format!("{path} in body must be of type {wanted}: {actual:?}");
        found.push(path, ErrorType::TypeInvalid, Some(actual.into()), detail);
    }
}

fn junctors(value: &Value, rare: &Rare, path: &str, found: &mut Found) {
    let run = |schema: &Structural| {
        let mut found = Found::default();
        node(value, None, schema, path, &mut found);
        found
    };
    if !rare.any_of.is_empty() {
        let mut best: Option<Found> = None;
        let mut passed = false;
        for result in rare.any_of.iter().map(run) {
            if result.errors.is_empty() {
                passed = true;
                break;
            }
            if best.as_ref().is_none_or(|b| result.matches > b.matches) {
                best = Some(result);
            }
        }
        if !passed {
            found.whole(format!(
                "{path:?} must validate at least one schema (anyOf)"
            ));
            best.into_iter().for_each(|best| found.merge(best));
        }
    }
    if !rare.one_of.is_empty() {
        one_of(rare.one_of.iter().map(run), path, found);
    }
    let mut valid = 0;
    for result in rare.all_of.iter().map(run) {
        valid += usize::from(result.errors.is_empty());
        found.merge(result);
    }
    if valid != rare.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        found.whole(format!(
            "{path:?} must validate all the schemas (allOf){none}"
        ));
    }
    if rare
        .not
        .as_deref()
        .is_some_and(|not| run(not).errors.is_empty())
    {
        found.whole(format!("{path:?} must not validate the schema (not)"));
    }
}

fn one_of(results: impl Iterator<Item = Found>, path: &str, found: &mut Found) {
    let mut best: Option<Found> = None;
    let mut valid = 0;
    for result in results {
        if result.errors.is_empty() {
            valid += 1;
            best = None;
        } else if valid == 0 && best.as_ref().is_none_or(|b| result.matches > b.matches) {
            best = Some(result);
        }
    }
    if valid != 1 {
        let more = match valid {
            0 => "Found none valid".to_owned(),
            n => format!("Found {n} valid alternatives"),
        };
        found.whole(format!(
            "{path:?} must validate one and only one schema (oneOf). {more}"
        ));
        best.into_iter().for_each(|best| found.merge(best));
    }
}

fn string(text: &str, schema: &Structural, rare: &Rare, path: &str, found: &mut Found) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = rare.max_length.filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        found.push(path, ErrorType::TooLong, None, detail);
    } else if let Some(min) = rare.min_length.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        found.invalid(path, text, detail);
    } else if let Some(pattern) = &rare.pattern {
        let shown = &pattern.text;
        let detail = match pattern.matches(text) {
            Some(true) => None,
            Some(false) => Some(format!("{path} in body should match '{shown}'")),
            None => Some(format!(
                "{path} in body should match '{shown}, but pattern is invalid: it is too big'"
            )),
        };
        if let Some(detail) = detail {
            found.invalid(path, text, detail);
        }
    }
    let of_strings = matches!(schema.kind, Type::String | Type::Any) && !schema.int_or_string;
    if of_strings && !formats::fits(&rare.format, text) {
        let format = &rare.format;
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        found.push(path, ErrorType::TypeInvalid, Some(text.into()), detail);
    }
}

/// A bound in the form in which it is compared and shown: whole numbers as such.
fn shown(bound: &Number, value: &Number) -> String {
    let float = bound.as_f64().unwrap_or(0.0);
    match value.is_i64() {
        #[expect(clippy::cast_possible_truncation, reason = "as the reference does")]
        true => (float as i64).to_string(),
        false => go_float(float),
    }
}

/// A number as Go's `%v` shows a float.
fn go_float(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, power) = match exponent.strip_prefix('-') {
            Some(power) => ('-', power),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{power:0>2}");
    }
    value.to_string()
}

fn numbers(value: &Number, schema: &Structural, rare: &Rare, path: &str, found: &mut Found) {
    let number = value.as_f64().unwrap_or(0.0);
    let out_of_range = match (schema.kind, &*rare.format) {
        (Type::Integer, "int32") => value.as_i64().is_none_or(|n| i32::try_from(n).is_err()),
        (Type::Integer, _) => value.as_i64().is_none() && number.abs() >= 9.3e18,
        (Type::Number, "float") => number.abs() > f64::from(f32::MAX),
        _ => false,
    };
    if out_of_range {
        let kind = if schema.kind == Type::Integer {
            "integer"
        } else {
            "number"
        };
        found.whole(match &*rare.format {
            "" => format!("Checked value must be of type {kind} (default format) in {path}"),
            format => {
                format!("Checked value must be of type {kind} with format {format} in {path}")
            }
        });
    }
    if let Some(factor) = &rare.multiple_of {
        let by = factor.as_f64().unwrap_or(0.0);
        let quotient = if by < 1.0 {
            1.0 / by * number
        } else {
            number / by
        };
        if by > 0.0 && (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            let detail = format!(
                "{path} in body should be a multiple of {}",
                shown(factor, value)
            );
            found.invalid(path, value.clone(), detail);
        }
    }
    let mut bound = |bound: &Option<Number>, exclusive: bool, words: [&str; 2], sign: f64| {
        let Some(bound) = bound else { return };
        let over = (number - bound.as_f64().unwrap_or(0.0)) * sign;
        if over > 0.0 || (exclusive && over == 0.0) {
            let words = words[usize::from(exclusive)];
            let detail = format!("{path} in body should be {words} {}", shown(bound, value));
            found.invalid(path, value.clone(), detail);
        }
    };
    let less = ["greater than or equal to", "greater than"];
    bound(&rare.minimum, rare.exclusive_minimum, less, -1.0);
    let more = ["less than or equal to", "less than"];
    bound(&rare.maximum, rare.exclusive_maximum, more, 1.0);
}

fn list(items: &[Value], old: Option<&Value>, schema: &Structural, path: &str, found: &mut Found) {
    if let Some(element) = schema.items.as_deref() {
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            node(item, correlated(item, old, schema), element, &path, found);
        }
    }
    let Some(rare) = schema.rare.as_deref() else {
        return;
    };
    let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = rare.min_items.filter(|min| size < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        found.invalid(path, size, detail);
    }
    if let Some(max) = rare.max_items.filter(|max| size > *max) {
        too_many(path, size, max, found);
    }
}

/// What an element of a list map was before: the old element with the same keys.
pub(super) fn correlated<'a>(
    item: &Value,
    old: Option<&'a Value>,
    schema: &Structural,
) -> Option<&'a Value> {
    let keys = schema.list_map_keys();
    if schema.list_type != ListType::Map || keys.is_empty() {
        return None;
    }
    let is_same = |old: &&Value| keys.iter().all(|key| old.get(&**key) == item.get(&**key));
    old?.as_array()?.iter().find(is_same)
}

fn too_many(path: &str, size: i64, max: i64, found: &mut Found) {
    let unit = if max == 1 { "item" } else { "items" };
    let detail = format!("must have at most {max} {unit}");
    found.push(path, ErrorType::TooMany, Some(size.into()), detail);
}

fn enumeration(value: &Value, rare: &Rare, path: &str, found: &mut Found) {
    let allowed = &rare.one_of_values;
    if allowed.is_empty() || allowed.iter().any(|a| same(a, value)) {
        return;
    }
    let words: Vec<String> = allowed
        .iter()
        .map(|a| match a {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", other.to_string()),
        })
        .collect();
    let detail = format!("supported values: {}", words.join(", "));
    found.push(path, ErrorType::NotSupported, Some(value.clone()), detail);
}

fn object(value: &Value, old: Option<&Value>, schema: &Structural, path: &str, found: &mut Found) {
    let Value::Object(map) = value else { return };
    let was = |key: &str| match schema.atomic_map {
        true => None,
        false => old.and_then(|old| old.get(key)),
    };
    let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
    let rare = schema.rare.as_deref();
    if let Some(min) = rare
        .and_then(|r| r.min_properties)
        .filter(|min| size < *min)
    {
        let detail = format!("{path} in body should have at least {min} properties");
        found.invalid(path, size, detail);
    }
    if let Some(max) = rare
        .and_then(|r| r.max_properties)
        .filter(|max| size > *max)
    {
        too_many(path, size, max, found);
    }
    for (key, value) in map {
        let below = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match (schema.properties.get(key.as_str()), &schema.additional) {
            (Some(property), _) => node(value, was(key), property, &below, found),
            (None, Some(Additional::Schema(additional))) => {
                let below = format!("{path}.{key}");
                node(value, was(key), additional, &below, found);
            }
            (None, Some(Additional::Bool(false))) => {
                let detail = format!("{path}.{key} in body is a forbidden property");
                found.invalid(path, key.clone(), detail);
            }
            (None, _) => {}
        }
    }
    for required in rare.iter().flat_map(|r| &r.required) {
        if !map.contains_key(&**required) {
            let path = format!("{path}.{required}");
            found.push(&path, ErrorType::Required, None, String::new());
        }
    }
}
