//! Does an object have only the fields of its kind, and are they of the right types.
//!
//! Wording: `sigs.k8s.io/json` (`unknown field "spec.foo"`, `json: cannot unmarshal string into Go struct field
//! DeploymentSpec.spec.replicas of type int32`) and `runtime.NewStrictDecodingError`.

mod order;

use base64::Engine as _;
use serde_json::{Number, Value};

use super::{Format, Kind, Schema};
use crate::codec::go_kind;
use crate::quantity::Quantity;

pub use order::sort_complaints;

/// A strict decoder stops complaining here.
const MAX_COMPLAINTS: usize = 100;

/// What is wrong with the shape of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldReport {
    /// `unknown field "spec.foo"`, for each field that the kind does not have, and the duplicates handed in.
    pub unknown: Vec<String>,
    /// The first field of a wrong type; a decoder stops at it, whatever it thinks of unknown fields.
    pub type_error: Option<String>,
    /// Bytes are given as lists of numbers: see [`write_bytes`].
    pub lists_bytes: bool,
}

impl FieldReport {
    /// A decoder does not look into fields that it does not know.
    fn forget_below_unknown(&mut self) {
        let path = |complaint: &str, word: &str| {
            let path = complaint.strip_prefix(word)?.strip_suffix('"')?;
            Some(path.to_owned())
        };
        let unknown = self
            .unknown
            .iter()
            .filter_map(|c| path(c, "unknown field \""));
        let unknown: Vec<String> = unknown.collect();
        self.unknown.retain(|complaint| {
            let Some(path) = path(complaint, "duplicate field \"") else {
                return true;
            };
            let below = |u: &String| path.strip_prefix(u.as_str());
            let hidden = unknown.iter().filter_map(below);
            !hidden
                .into_iter()
                .any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
    }

    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.unknown.is_empty() && self.type_error.is_none()
    }
}

/// The error of `fieldValidation=Strict` for these complaints.
pub fn strict_error(complaints: &[String]) -> String {
    format!("strict decoding error: {}", complaints.join(", "))
}

/// Checks an object against its kind; `duplicates` are the complaints of the decoder.
pub fn validate_fields<'a>(
    value: &'a Value,
    schema: &'a Schema,
    duplicates: &[String],
) -> FieldReport {
    let mut walk = Walk {
        path: String::new(),
        fields: Vec::new(),
        owner: String::new(),
        report: FieldReport {
            unknown: duplicates.to_vec(),
            type_error: None,
            lists_bytes: false,
        },
        abort: None,
    };
    walk.value(value, schema);
    walk.report.type_error = walk.abort.take().or(walk.report.type_error.take());
    walk.report.forget_below_unknown();
    walk.report
}

struct Walk<'a> {
    /// Where we are, as strict errors show it.
    path: String,
    /// Where we are, as type errors show it: field names only.
    fields: Vec<&'a str>,
    /// The type whose field we are in.
    owner: String,
    report: FieldReport,
    /// The first complaint of a type with a decoder of its own: decoding ends there, whatever was wrong before.
    abort: Option<String>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &'a Value, schema: &'a Schema) {
        match (schema.kind(), value) {
            (_, Value::Null) | (Kind::Any, _) => {}
            (Kind::Object, Value::Object(_)) => self.object(value, schema),
            (Kind::Array, Value::Array(items)) => self.list(items, schema),
            (Kind::String, Value::String(text)) => self.text(text, schema.format()),
            (Kind::String, Value::Array(items)) if schema.format() == Format::Byte => {
                self.byte_list(items);
            }
            (Kind::Boolean, Value::Bool(_)) | (Kind::Number, Value::Number(_)) => {}
            (Kind::Integer, Value::Number(number)) => {
                if !fits(number, schema.format()) {
                    self.mismatch(&format!("number {number}"), schema);
                }
            }
            (Kind::IntOrString, _) => self.int_or_string(value),
            (Kind::Quantity, _) => self.quantity(value),
            (Kind::String, _)
                if matches!(schema.format(), Format::DateTime | Format::MicroTime) =>
            {
                let error = self.mismatch_text(go_kind(value), "string");
                self.abort(error);
            }
            _ => self.mismatch(go_kind(value), schema),
        }
    }

    fn object(&mut self, value: &'a Value, schema: &'a Schema) {
        let Value::Object(map) = value else { return };
        let named = schema.properties().next().is_some();
        let outer = std::mem::take(&mut self.owner);
        if named {
            let name = schema.type_name();
            self.owner = name.rsplit('.').next().unwrap_or(&name).to_owned();
        } else {
            self.owner.clone_from(&outer);
        }
        for (key, value) in map {
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
            match schema.child(key) {
                Some(child) => {
                    // The keys of a map are no fields to Go.
                    let depth = self.fields.len();
                    if schema.property(key).is_some() {
                        self.fields.extend(child.go_embedded());
                        self.fields.push(key);
                    }
                    self.value(value, child);
                    self.fields.truncate(depth);
                }
                None => self.unknown(),
            }
            self.path.truncate(length);
        }
        self.owner = outer;
    }

    fn unknown(&mut self) {
        let complaint = format!("unknown field \"{}\"", self.path);
        let complaints = &mut self.report.unknown;
        if complaints.len() < MAX_COMPLAINTS && !complaints.contains(&complaint) {
            complaints.push(complaint);
        }
    }

    fn list(&mut self, items: &'a [Value], schema: &'a Schema) {
        let element = schema.items().unwrap_or(Schema::any());
        for (index, item) in items.iter().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.value(item, element);
            self.path.truncate(length);
        }
    }

    fn text(&mut self, text: &str, format: Format) {
        match format {
            Format::DateTime => {
                if let Err(error) = crate::time::check(text, false) {
                    self.abort(error);
                }
            }
            Format::MicroTime => {
                if let Err(error) = crate::time::check(text, true) {
                    self.abort(error);
                }
            }
            Format::Byte => {
                let clean: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                let decoded = base64::engine::general_purpose::STANDARD.decode(&clean);
                if let Err(error) = decoded {
                    let stray = |b: u8| !(b.is_ascii_alphanumeric() || b"+/=\r\n".contains(&b));
                    let place = match (text.bytes().position(stray), error) {
                        (Some(at), _) => at,
                        (
                            None,
                            base64::DecodeError::InvalidByte(at, _)
                            | base64::DecodeError::InvalidLastSymbol(at, _),
                        ) => at,
                        // Four characters that are not all there: counted from the first of them.
                        (None, _) => clean.trim_end_matches('=').len() / 4 * 4,
                    };
                    self.fail(format!("illegal base64 data at input byte {place}"));
                }
            }
            _ => {}
        }
    }

    /// Go reads bytes from a list of numbers, too.
    fn byte_list(&mut self, items: &[Value]) {
        self.report.lists_bytes = true;
        if let Some(item) = items.iter().find(|item| byte(item).is_none()) {
            let what = match item {
                Value::Number(number) => format!("number {number}"),
                other => go_kind(other).to_owned(),
            };
            let error = self.mismatch_text(&what, "uint8");
            self.fail(error);
        }
    }

    fn int_or_string(&mut self, value: &Value) {
        let what = match value {
            Value::String(_) => return,
            Value::Number(number) if fits(number, Format::Int32) => return,
            Value::Number(number) => format!("number {number}"),
            other => go_kind(other).to_owned(),
        };
        let error = self.mismatch_text(&what, "int32");
        self.abort(error);
    }

    fn quantity(&mut self, value: &Value) {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        if let Err(error) = Quantity::parse(&text) {
            self.abort(error.to_string());
        }
    }

    fn mismatch(&mut self, what: &str, schema: &Schema) {
        let error = self.mismatch_text(what, &schema.type_name());
        self.fail(error);
    }

    fn mismatch_text(&self, what: &str, kind: &str) -> String {
        if self.fields.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {kind}");
        }
        let (owner, fields) = (&self.owner, self.fields.join("."));
        format!(
            "json: cannot unmarshal {what} into Go struct field {owner}.{fields} of type {kind}"
        )
    }

    fn abort(&mut self, error: String) {
        self.abort.get_or_insert(error);
    }

    fn fail(&mut self, error: String) {
        self.report.type_error.get_or_insert(error);
    }
}

fn fits(number: &Number, format: Format) -> bool {
    match (number.as_i64(), format) {
        (Some(number), Format::Int32) => i32::try_from(number).is_ok(),
        (Some(_), _) => true,
        (None, _) => false,
    }
}

/// A byte in a list; null is none, which Go leaves zero.
fn byte(value: &Value) -> Option<u8> {
    match value {
        Value::Null => Some(0),
        value => value.as_u64()?.try_into().ok(),
    }
}

/// Writes bytes that are given as lists of numbers as they are kept, in base 64.
pub fn write_bytes(value: &mut Value, schema: &Schema) {
    match (schema.kind(), schema.format(), &mut *value) {
        (Kind::Object, _, Value::Object(map)) => {
            for (key, value) in map {
                write_bytes(value, schema.child(key).unwrap_or(Schema::any()));
            }
        }
        (Kind::Array, _, Value::Array(items)) => {
            let element = schema.items().unwrap_or(Schema::any());
            items.iter_mut().for_each(|item| write_bytes(item, element));
        }
        (Kind::String, Format::Byte, Value::Array(items)) => {
            let bytes: Vec<u8> = items.iter().filter_map(byte).collect();
            *value = base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into();
        }
        _ => {}
    }
}

/// Removes the fields that the kind does not have.
pub fn prune(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) if schema.kind() == Kind::Object => {
            map.retain(|key, _| schema.child(key).is_some());
            for (key, value) in map {
                prune(value, schema.child(key).unwrap_or(Schema::any()));
            }
        }
        Value::Array(items) => {
            let element = schema.items().unwrap_or(Schema::any());
            items.iter_mut().for_each(|item| prune(item, element));
        }
        _ => {}
    }
}
