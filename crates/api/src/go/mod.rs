//! How refused values and changed specifications are shown: as Go's encoder writes the types inside a stock server.
//!
//! Those have other names than the JSON of the API (`Volumes` for `volumes`), in the order of their declaration, and tell
//! every field. `internal.txt` has a section a definition, taken from upstream's internal types by reflection: of each
//! field its name, `=` its name in JSON where that is another than the name in lower case (`?` where JSON has none), and
//! `:` what stands for no value (`n`ull, `s`tring, `b`oolean, `0`, `q`uantity, `d`uration, `o`bject), with `?` when it is
//! left out then. `+` is a field whose own fields stand here.

use std::fmt::Write as _;

use machinery::schema::{Kind, Schema};
use machinery::{ErrorList, FieldError};
use serde_json::{Map, Value};

const INTERNAL: &str = include_str!("internal.txt");

/// A value in the form of an internal type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Leaf(Value),
    List(Vec<Shown>),
    Fields(Vec<(String, Shown)>),
}

/// Shows the objects in these errors as the kind's internal types.
pub(crate) fn show(errors: &mut ErrorList, schema: impl FnOnce() -> Option<Schema>) {
    let is_tree = |e: &FieldError| {
        let value = e.value.as_ref();
        e.shown.is_none() && value.is_some_and(|v| v.is_object() || v.is_array())
    };
    if !errors.0.iter().any(is_tree) {
        return;
    }
    let Some(schema) = schema() else { return };
    for error in errors.0.iter_mut().filter(|e| is_tree(e)) {
        let found = at_path(&schema, &error.path.to_string());
        if let (Some(found), Some(value)) = (found, &error.value) {
            error.shown = Some(internal(value, found).compact());
        }
    }
}

/// A value of a definition, for example `io.k8s.api.core.v1.PodSpec`, of which schemas know by a kind.
pub(crate) fn of_definition(value: &Value, definition: &str) -> Shown {
    match crate::schema::get_known(definition) {
        Some(schema) => internal(value, &schema),
        None => Shown::Leaf(value.clone()),
    }
}

/// The same, where the fields of one section are those of another's schema.
pub(crate) fn of_section(value: &Value, section: &str, definition: &str) -> Shown {
    match (crate::schema::get_known(definition), self::section(section)) {
        (Some(schema), Some(fields)) => Shown::Fields(inside(value, &schema, fields)),
        _ => Shown::Leaf(value.clone()),
    }
}

fn section(definition: &str) -> Option<&'static str> {
    let mut lines = INTERNAL.lines();
    lines.find(|line| *line == definition)?;
    lines.next().map(str::trim)
}

/// The schema of the value that a path of an error leads to.
fn at_path<'a>(schema: &'a Schema, path: &str) -> Option<&'a Schema> {
    let mut found = schema;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (_, after) = inside.split_once(']')?;
            found = found.items().or_else(|| found.additional())?;
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('.').unwrap_or(rest);
        let end = name.find(['.', '[']).unwrap_or(name.len());
        // The one name that is another inside.
        let property = match &name[..end] {
            "involvedObject" => found
                .property("involvedObject")
                .or_else(|| found.property("regarding")),
            name => found.property(name),
        };
        found = property?;
        rest = &name[end..];
    }
    Some(found)
}

fn internal(value: &Value, schema: &Schema) -> Shown {
    match value {
        // An error about a list may show one of its elements.
        Value::Object(_) if schema.kind() == Kind::Array => match schema.items() {
            Some(items) => internal(value, items),
            None => Shown::Leaf(value.clone()),
        },
        Value::Object(map) => match section(schema.definition_name()) {
            // A value that is said to stand where another type does.
            Some(_) if !map.is_empty() && !map.keys().any(|key| schema.property(key).is_some()) => {
                Shown::Fields(plain(map, schema))
            }
            Some(fields) => Shown::Fields(inside(value, schema, fields)),
            None => Shown::Fields(plain(map, schema)),
        },
        Value::Array(items) => {
            let element = schema.items().unwrap_or(Schema::any());
            Shown::List(items.iter().map(|item| internal(item, element)).collect())
        }
        other => Shown::Leaf(other.clone()),
    }
}

fn plain(map: &Map<String, Value>, schema: &Schema) -> Vec<(String, Shown)> {
    let field = |(key, value): (&String, &Value)| {
        let inner = schema.child(key).unwrap_or(Schema::any());
        (key.clone(), internal(value, inner))
    };
    map.iter().map(field).collect()
}

fn inside(value: &Value, schema: &Schema, fields: &str) -> Vec<(String, Shown)> {
    let mut out = Vec::new();
    let nothing = Value::Null;
    for word in fields.split(' ') {
        let child = |name: &str| schema.property(name).unwrap_or(Schema::any());
        if let Some(name) = word.strip_prefix('+') {
            let inner = child(name);
            if let Some(fields) = section(inner.definition_name()) {
                out.extend(inside(value.get(name).unwrap_or(&nothing), inner, fields));
            }
            continue;
        }
        let Some((names, zero)) = word.split_once(':') else {
            continue;
        };
        let (go, json) = match names.split_once('=') {
            Some((go, json)) => (go, json.to_owned()),
            None => (names, lower_first(names)),
        };
        let there = value.get(&json).filter(|value| !value.is_null());
        let shown = match (there, zero.strip_suffix('?')) {
            (None, Some(_)) => continue,
            (Some(value), Some(_)) if is_empty(value) => continue,
            (Some(value), _) => internal(value, child(&json)),
            (None, None) => unset(zero, child(&json)),
        };
        out.push((go.to_owned(), shown));
    }
    out
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// What stands where there is no value.
fn unset(zero: &str, schema: &Schema) -> Shown {
    Shown::Leaf(match zero {
        "s" => "".into(),
        "b" => false.into(),
        "0" => 0.into(),
        "q" => "0".into(),
        "d" => "0s".into(),
        "o" => {
            let fields = section(schema.definition_name());
            let fields = fields.map(|fields| inside(&Value::Null, schema, fields));
            return Shown::Fields(fields.unwrap_or_default());
        }
        _ => Value::Null,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

impl Shown {
    /// In one line.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// A line a value, one space a level.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    fn write(&self, out: &mut String, level: Option<usize>) {
        match self {
            Self::Leaf(value) => out.push_str(&escaped(&value.to_string())),
            Self::List(items) => {
                let items = items.iter().map(|item| (None, item));
                parts(out, level, ('[', ']'), items);
            }
            Self::Fields(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (Some(name.as_str()), value));
                parts(out, level, ('{', '}'), fields);
            }
        }
    }
}

fn parts<'a>(
    out: &mut String,
    level: Option<usize>,
    (open, close): (char, char),
    parts: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Shown)>,
) {
    let is_empty = parts.len() == 0;
    let inner = level.map(|level| level + 1);
    let line = |out: &mut String, level: Option<usize>| {
        if let Some(level) = level.filter(|_| !is_empty) {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', level));
        }
    };
    out.push(open);
    for (i, (name, value)) in parts.enumerate() {
        if i > 0 {
            out.push(',');
        }
        line(out, inner);
        if let Some(name) = name {
            // Writing into a String has no way to fail.
            let _ = write!(out, "{}:", escaped(&Value::from(name).to_string()));
            out.push_str(if level.is_some() { " " } else { "" });
        }
        value.write(out, inner);
    }
    line(out, level);
    out.push(close);
}

/// Go's encoder keeps its texts safe inside HTML.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_shown_as_its_internal_type() {
        let value = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let shown = of_definition(&value, "io.k8s.api.core.v1.PersistentVolumeClaimSpec");
        assert_eq!(
            shown.compact(),
            "{\"AccessModes\":[\"ReadWriteOnce\"],\"Selector\":null,\"Resources\":{\"Limits\":null,\"Requests\":\
             {\"storage\":\"1Gi\"}},\"VolumeName\":\"\",\"StorageClassName\":null,\"VolumeMode\":null,\"DataSource\":null,\
             \"DataSourceRef\":null,\"VolumeAttributesClassName\":null}"
        );
        let list = Shown::Fields(vec![
            ("A".to_owned(), Shown::List(Vec::new())),
            ("B".to_owned(), Shown::List(vec![Shown::Leaf("<".into())])),
        ]);
        assert_eq!(
            list.pretty(),
            "{\n \"A\": [],\n \"B\": [\n  \"\\u003c\"\n ]\n}"
        );
    }

    #[test]
    fn objects_in_errors_are_found_by_their_path() {
        let mut errors = ErrorList::new();
        let path = machinery::Path::new("roleRef");
        errors.invalid(
            &path,
            json!({"kind": "Role", "name": "r"}),
            "field is immutable",
        );
        show(&mut errors, || {
            crate::schema::of_kind("rbac.authorization.k8s.io", "v1", "RoleBinding")
        });
        assert_eq!(
            errors.0[0].to_string(),
            "roleRef: Invalid value: {\"APIGroup\":\"\",\"Kind\":\"Role\",\"Name\":\"r\"}: field is immutable"
        );
    }
}
