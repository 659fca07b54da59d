//! Writing: a tree and the table of fields make the bytes that client-go reads.
//!
//! Fields stand in the order of their numbers. Of a message that the table has, what the tree has is written; what the
//! table does not know has no place in this format and is left out, as a Go server leaves it out when it reads an object.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::MAGIC;
use super::table::{self, Field, MessageId, Type};

/// The message of a kind; `None` for kinds that have no protobuf.
pub(crate) fn message_of(api_version: &str, kind: &str) -> Option<MessageId> {
    table::of_kind(api_version, kind)
}

/// Writes an object of any kind in its envelope; `None` when the kind has no protobuf.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let message = message_of(api_version, kind)?;
    Some(envelope(api_version, kind, &encode_message(message, value)))
}

/// Writes an object without its envelope.
pub(crate) fn encode_message(message: MessageId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if let Value::Object(map) = value {
        write_message(&mut out, message, map);
    }
    out
}

/// Puts an encoded object in its envelope.
pub(crate) fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 24);
    write_envelope_head(&mut out, api_version, kind, raw.len());
    out.extend_from_slice(raw);
    out.extend_from_slice(ENVELOPE_END);
    out
}

/// What ends an envelope: no encoding, no content type.
pub(crate) const ENVELOPE_END: &[u8] = &[0x1a, 0, 0x22, 0];

/// Everything of an envelope that stands before the encoded object of this length.
pub(crate) fn write_envelope_head(out: &mut Vec<u8>, api_version: &str, kind: &str, length: usize) {
    out.extend_from_slice(MAGIC);
    within(out, 1, |out| {
        write_bytes(out, 1, api_version.as_bytes());
        write_bytes(out, 2, kind.as_bytes());
    });
    write_head(out, 2, length);
}

/// How many bytes [`write_item`] adds to an item of this length.
pub(crate) fn item_overhead(length: usize) -> usize {
    1 + varint_length(length as u64)
}

/// The metadata of a list, as its field.
pub(crate) fn write_list_metadata(out: &mut Vec<u8>, metadata: &Value) {
    if let (Some(message), Value::Object(map)) = (message_of("v1", "ListMeta"), metadata) {
        within(out, 1, |out| write_message(out, message, map));
    }
}

/// One encoded object, as an item of a list.
pub(crate) fn write_item(out: &mut Vec<u8>, raw: &[u8]) {
    write_bytes(out, 2, raw);
}

/// A watch event around an object in its envelope, with the length before it.
pub(crate) fn write_watch_frame(out: &mut Vec<u8>, what: &str, object: &[u8]) {
    let extension = 1 + varint_length(object.len() as u64) + object.len();
    let text = 1 + varint_length(what.len() as u64) + what.len();
    let whole = text + 1 + varint_length(extension as u64) + extension;
    out.extend_from_slice(&u32::try_from(whole).unwrap_or(u32::MAX).to_be_bytes());
    write_bytes(out, 1, what.as_bytes());
    write_head(out, 2, extension);
    write_bytes(out, 1, object);
}

fn write_message(out: &mut Vec<u8>, message: MessageId, map: &Map<String, Value>) {
    for field in &message.get().fields {
        match &field.of {
            Type::Message(inner) if field.name == "-" => {
                let from = out.len();
                within(out, field.number, |out| write_message(out, *inner, map));
                if out.len() == from + 2 {
                    // Nothing of it was there.
                    out.truncate(from);
                }
            }
            _ => match map.get(field.name) {
                None | Some(Value::Null) => {}
                Some(value) => write_field(out, field, value),
            },
        }
    }
}

fn write_field(out: &mut Vec<u8>, field: &Field, value: &Value) {
    match (&field.of, value) {
        (Type::List(of), Value::Array(items)) => {
            for item in items {
                write_value(out, field.number, of, item);
            }
        }
        (Type::Map(of), Value::Object(map)) => {
            for (key, value) in map {
                within(out, field.number, |out| {
                    write_bytes(out, 1, key.as_bytes());
                    write_value(out, 2, of, value);
                });
            }
        }
        (of, value) => write_value(out, field.number, of, value),
    }
}

/// One value as one field. What is not of the field's type is left out: stored objects have been read by their type.
fn write_value(out: &mut Vec<u8>, number: u64, of: &Type, value: &Value) {
    match (of, value) {
        (Type::String, Value::String(text)) => write_bytes(out, number, text.as_bytes()),
        (Type::Bool, Value::Bool(b)) => {
            write_varint(out, number << 3);
            out.push(u8::from(*b));
        }
        (Type::Int, Value::Number(n)) => {
            write_varint(out, number << 3);
            write_varint(out, as_integer(n).cast_unsigned());
        }
        (Type::Float, Value::Number(n)) => {
            write_varint(out, number << 3 | 1);
            out.extend_from_slice(&n.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        (Type::Bytes, Value::String(text)) => {
            write_bytes(out, number, &STANDARD.decode(text).unwrap_or_default());
        }
        (Type::Quantity, value) => {
            let text = match value {
                Value::String(text) => Cow::Borrowed(text.as_str()),
                other => Cow::Owned(other.to_string()),
            };
            within(out, number, |out| write_bytes(out, 1, text.as_bytes()));
        }
        (Type::IntOrString, value) => within(out, number, |out| write_int_or_string(out, value)),
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            let Ok(time) = text.parse::<Timestamp>() else {
                return;
            };
            within(out, number, |out| write_time(out, time));
        }
        (Type::Json, value) => {
            // A tree of JSON has no way to fail to encode.
            let json = serde_json::to_vec(value).unwrap_or_default();
            within(out, number, |out| write_bytes(out, 1, &json));
        }
        (Type::Message(inner), Value::Object(map)) => {
            within(out, number, |out| write_message(out, *inner, map));
        }
        (Type::Items(of), Value::Array(items)) => within(out, number, |out| {
            items.iter().for_each(|item| write_value(out, 1, of, item));
        }),
        (Type::Choice(message), value) => {
            within(out, number, |out| write_choice(out, *message, value));
        }
        _ => {}
    }
}

/// Of a message of alternatives the one that the value is; a schema allows itself.
fn write_choice(out: &mut Vec<u8>, message: MessageId, value: &Value) {
    let fields = &message.get().fields;
    let named = |name: &str| fields.iter().find(|f| f.name == name);
    let chosen = match value {
        Value::Object(_) => named("schema"),
        _ => fields.iter().find(|f| f.name != "schema"),
    };
    if let (Value::Object(_), Some(allows)) = (value, named("allows")) {
        write_field(out, allows, &true.into());
    }
    if let Some(field) = chosen {
        write_field(out, field, value);
    }
}

fn write_int_or_string(out: &mut Vec<u8>, value: &Value) {
    let (kind, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        Value::Number(n) => (0, as_integer(n), ""),
        _ => return,
    };
    write_varint(out, 1 << 3);
    write_varint(out, kind);
    write_varint(out, 2 << 3);
    write_varint(out, number.cast_unsigned());
    write_bytes(out, 3, text.as_bytes());
}

fn write_time(out: &mut Vec<u8>, time: Timestamp) {
    // Nanoseconds since the epoch, split so that the rest is never negative.
    let nanos = time.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
    let rest = u64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    write_varint(out, 1 << 3);
    write_varint(out, seconds.cast_unsigned());
    write_varint(out, 2 << 3);
    write_varint(out, rest);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float where an integer belongs was written by a client as 1.0"
)]
fn as_integer(n: &serde_json::Number) -> i64 {
    n.as_i64()
        .unwrap_or_else(|| n.as_f64().unwrap_or(0.0) as i64)
}

/// Writes a field whose length is known when it has been written.
fn within(out: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    write_varint(out, number << 3 | 2);
    // Most messages are short: one byte is kept for the length, and made more when that was wrong.
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if let (true, Ok(short)) = (length < 0x80, u8::try_from(length)) {
        out[at] = short;
        return;
    }
    let mut head = Vec::with_capacity(5);
    write_varint(&mut head, length as u64);
    out.splice(at..=at, head);
}

fn write_head(out: &mut Vec<u8>, number: u64, length: usize) {
    write_varint(out, number << 3 | 2);
    write_varint(out, length as u64);
}

fn write_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    write_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
