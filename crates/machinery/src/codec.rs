//! Reading objects from JSON, YAML and CBOR within bounds, and merging typed views back into the tree.
//!
//! Numbers become what Go makes of them: 64-bit integers where they fit, floats elsewhere. Fields that appear twice are
//! reported, the last one counts. Depth and size are limited before anything is built; YAML aliases are counted
//! (security lessons 2019-11253, 2019-11254).

mod cbor;
mod tree;
mod yaml_words;

use std::cell::RefCell;

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::Object;
pub use cbor::{decode_cbor, decode_cbor_value, encode_cbor, write_cbor, write_cbor_array_head};
use tree::{Seed, Sink};

/// The largest body that the API takes.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// The deepest nesting that any reader takes; `serde_json` has the same.
const MAX_DEPTH: usize = 120;
/// Events that aliases may add to a YAML document.
const MAX_ALIAS_EVENTS: usize = 50_000;

/// How the complaints of a strict reader of YAML begin; a line each follows.
pub const YAML_COMPLAINTS: &str = "yaml: unmarshal errors:\n";

/// An object and what a strict reader would object to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The tree.
    pub object: Object,
    /// Complaints such as `duplicate field "spec.replicas"`.
    pub duplicates: Vec<String>,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the syntax.
    #[error("{0}")]
    Syntax(String),
    /// More than the limit.
    #[error("limit is {limit} bytes")]
    TooLarge {
        /// The most that would be read.
        limit: usize,
    },
    /// A value that is no object.
    #[error("json: cannot unmarshal {0} into Go value of type map[string]interface {{}}")]
    NotAnObject(&'static str),
}

/// Reads one JSON object.
///
/// # Errors
/// Not JSON, no object, too large or too deep.
pub fn decode_json(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = decode_json_value(bytes)?;
    Ok(Decoded {
        object: into_object(value)?,
        duplicates,
    })
}

/// Reads one JSON value of any type, with the complaints of a strict reader.
///
/// # Errors
/// Not JSON, too large or too deep.
pub fn decode_json_value(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    within(bytes)?;
    let sink = RefCell::new(Sink::default());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Seed::root(&sink).deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    let value = read.map_err(|e| DecodeError::Syntax(go_syntax_error(&e, bytes)))?;
    Ok((value, sink.into_inner().duplicates))
}

/// Reads one YAML (or JSON) object.
///
/// # Errors
/// Not YAML, no object, too large, too deep or too many aliases.
pub fn decode_yaml(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = decode_yaml_value(bytes)?;
    Ok(Decoded {
        object: into_object(value)?,
        duplicates,
    })
}

/// Reads one YAML value of any type, with the complaints of a strict reader.
///
/// # Errors
/// Not YAML, too large, too deep or too many aliases.
pub fn decode_yaml_value(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    within(bytes)?;
    let sink = RefCell::new(Sink::default());
    // What comes after the first document is not looked at, as upstream.
    let mut first = None;
    let read = serde_saphyr::with_deserializer_from_slice_with_options(
        bytes,
        yaml_options(serde_saphyr::options::DuplicateKeyPolicy::LastWins),
        |de| {
            first = Some(Seed::root(&sink).deserialize(de)?);
            Ok(())
        },
    );
    let value = match (first, read) {
        (Some(value), Ok(()) | Err(serde_saphyr::Error::MultipleDocuments { .. })) => value,
        (_, Err(error)) => return Err(yaml_error(&error, bytes)),
        (None, Ok(())) => Value::Null,
    };
    let found = sink.into_inner().duplicates;
    let duplicates = if found.is_empty() {
        found
    } else {
        vec![yaml_duplicate(bytes)]
    };
    Ok((value, duplicates))
}

/// Reads all documents of a YAML stream; empty ones are left out. For tools: the API takes one object a body.
///
/// # Errors
/// Not YAML, too deep or too many aliases.
pub fn decode_yaml_documents(text: &str) -> Result<Vec<Value>, DecodeError> {
    let options = yaml_options(serde_saphyr::options::DuplicateKeyPolicy::LastWins);
    let documents: Vec<tree::Plain> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| yaml_error(&e, text.as_bytes()))?;
    let values = documents.into_iter().map(|plain| plain.0);
    Ok(values.filter(|value| !value.is_null()).collect())
}

/// The YAML of a value, as tools print it.
///
/// # Errors
/// Never for JSON trees; the encoder's word is passed on.
pub fn encode_yaml(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}

/// Adds to `tree` what only `defaulted` has: missing keys, in objects at any depth and in lists of the same length.
///
/// A typed view is defaulted, written to JSON and laid over the tree so; what the type does not know stays. Keys that
/// are present with null count as missing, as a typed reader sees them.
pub fn overlay(tree: &mut Value, defaulted: &Value) {
    match (tree, defaulted) {
        (Value::Object(own), Value::Object(more)) => {
            for (key, value) in more {
                match own.get_mut(key) {
                    Some(slot) if !slot.is_null() => overlay(slot, value),
                    _ => {
                        own.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(own), Value::Array(more)) if own.len() == more.len() => {
            for (slot, value) in own.iter_mut().zip(more) {
                overlay(slot, value);
            }
        }
        _ => {}
    }
}

/// The name Go's JSON errors give to a type.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn into_object(value: Value) -> Result<Object, DecodeError> {
    Object::from_value(value).map_err(|v| DecodeError::NotAnObject(go_kind(&v)))
}

fn within(bytes: &[u8]) -> Result<(), DecodeError> {
    let limit = MAX_BODY_BYTES;
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { limit });
    }
    Ok(())
}

fn yaml_options(
    duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy,
) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_reader_input_bytes: Some(MAX_BODY_BYTES),
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
        },
    }
}

fn yaml_error(error: &serde_saphyr::Error, bytes: &[u8]) -> DecodeError {
    DecodeError::Syntax(format!("yaml: {}", yaml_words::of(error, bytes)))
}

/// The first key set twice, in the words of the YAML reader; read again because that is rare.
fn yaml_duplicate(bytes: &[u8]) -> String {
    use serde_saphyr::options::DuplicateKeyPolicy;
    let options = yaml_options(DuplicateKeyPolicy::Error);
    let again: Result<tree::Plain, _> = serde_saphyr::from_slice_with_options(bytes, options);
    let (line, key) = match again {
        Err(error) => {
            let line = error.location().map_or(0, |l| l.line());
            let key = match error.without_snippet() {
                serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => key.clone(),
                _ => String::new(),
            };
            (line, key)
        }
        Ok(_) => (0, String::new()),
    };
    format!("{YAML_COMPLAINTS}  line {line}: key \"{key}\" already set in map")
}

/// What Go's scanner would have said.
fn go_syntax_error(error: &serde_json::Error, bytes: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    let line = bytes
        .split(|b| *b == b'\n')
        .nth(error.line().saturating_sub(1));
    let byte = line.and_then(|l| l.get(error.column().saturating_sub(1)));
    let byte = byte.copied().unwrap_or(b' ');
    let place = match () {
        () if text.starts_with("recursion limit") => return "exceeded max depth".to_owned(),
        () if text.starts_with("expected value") => "looking for beginning of value",
        () if text.starts_with("key must be") => "looking for beginning of object key string",
        () if text.starts_with("expected `:`") => "after object key",
        () if text.starts_with("expected `,` or `}`") => "after object key:value pair",
        () if text.starts_with("expected `,` or `]`") => "after array element",
        () if text.starts_with("trailing comma") => match byte {
            b'}' => "looking for beginning of object key string",
            _ => "looking for beginning of value",
        },
        () if text.starts_with("trailing characters") => "after top-level value",
        () if text.starts_with("control character") => "in string literal",
        () if text.starts_with("invalid escape") => "in string escape code",
        () if text.starts_with("invalid number") => "in numeric literal",
        () if text.starts_with("expected ident") => "in literal",
        () => return text,
    };
    let shown = match byte {
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\'' => "\\'".to_owned(),
        b if b.is_ascii_control() => format!("\\x{b:02x}"),
        b => char::from(b).to_string(),
    };
    format!("invalid character '{shown}' {place}")
}

#[cfg(test)]
mod tests;
