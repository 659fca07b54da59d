//! The protobuf form of objects: what programs made with client-go send and would rather be answered in.
//!
//! One reader (here) and one writer (`encode.rs`) for all kinds over a table of fields (`fields.txt`); what is read is the
//! same tree that JSON makes. A field without a value that was sent as zero is left out, as JSON would.
//! Format: `k8s.io/apimachinery/pkg/runtime/serializer/protobuf`.

mod canonical;
mod encode;
mod table;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use machinery::{Object, time};
use serde_json::{Map, Value};

pub(crate) use canonical::settle;
pub(crate) use encode::{
    ENVELOPE_END, encode, encode_message, envelope, item_overhead, message_of, write_envelope_head,
    write_item, write_list_metadata, write_watch_frame,
};
pub(crate) use table::MessageId;
use table::{Field, Type};
use wire::{Reader, Wire};

/// What an encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 100;

/// Why bytes are no object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope is missing.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    /// Cut off or not the format.
    #[error("unexpected EOF or malformed field in {0}")]
    Malformed(&'static str),
    /// A kind that the table does not have.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// The version in the envelope.
        api_version: String,
        /// The kind in the envelope.
        kind: String,
    },
    /// Messages inside messages without end.
    #[error("exceeded max depth")]
    TooDeep,
}

/// Reads an object in its envelope.
///
/// # Errors
/// No envelope, an unknown kind, or bytes that are no such message.
pub fn decode(bytes: &[u8]) -> Result<Object, ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut envelope = Reader::new(body, "runtime.Unknown");
    while let Some((number, value)) = envelope.next()? {
        match (number, value) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader::new(meta, "runtime.TypeMeta");
                while let Some((number, value)) = meta.next()? {
                    match (number, value) {
                        (1, Wire::Bytes(text)) => api_version = lossy(text),
                        (2, Wire::Bytes(text)) => kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(message) = table::of_kind(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut object = Object(Map::new());
    read_message(raw, message, &mut object.0, 0)?;
    object.set_type(&api_version, &kind);
    Ok(object)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_message(
    bytes: &[u8],
    message: MessageId,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let message = message.get();
    let mut reader = Reader::new(bytes, message.name);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = message.fields.iter().find(|f| f.number == number) else {
            continue;
        };
        read_field(field, wire, message.name, out, depth)?;
    }
    Ok(())
}

fn read_field(
    field: &Field,
    wire: Wire<'_>,
    message: &'static str,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match &field.of {
        Type::Message(inner) if field.name == "-" => {
            let Wire::Bytes(bytes) = wire else {
                return Err(ProtobufError::Malformed(message));
            };
            read_message(bytes, *inner, out, depth + 1)
        }
        Type::List(of) => {
            // Numbers may come packed.
            let mut values = Vec::new();
            match (of.as_ref(), wire) {
                (Type::Int, Wire::Bytes(bytes)) => {
                    let mut packed = Reader::new(bytes, message);
                    while let Some(number) = packed.varint_or_end()? {
                        values.push(Value::from(number.cast_signed()));
                    }
                }
                (of, wire) => values.extend(read_value(of, wire, message, depth)?),
            }
            let list = out
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(values);
            }
            Ok(())
        }
        Type::Map(of) => {
            let Wire::Bytes(bytes) = wire else {
                return Err(ProtobufError::Malformed(message));
            };
            let mut key = String::new();
            let mut value = of.zero();
            let mut entry = Reader::new(bytes, message);
            while let Some((number, wire)) = entry.next()? {
                match (number, wire) {
                    (1, Wire::Bytes(text)) => key = lossy(text),
                    (2, wire) => value = read_value(of, wire, message, depth)?.unwrap_or(value),
                    _ => {}
                }
            }
            let map = out
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
            Ok(())
        }
        of => {
            if let Some(value) = read_value(of, wire, message, depth)?
                && (field.keeps_zero || !is_zero(&value))
            {
                out.insert(field.name.into(), value);
            }
            Ok(())
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

fn read_value(
    of: &Type,
    wire: Wire<'_>,
    message: &'static str,
    depth: usize,
) -> Result<Option<Value>, ProtobufError> {
    let malformed = || ProtobufError::Malformed(message);
    Ok(match (of, wire) {
        (Type::String, Wire::Bytes(bytes)) => {
            Some(std::str::from_utf8(bytes).map_err(|_| malformed())?.into())
        }
        (Type::Bool, Wire::Varint(n)) => Some((n != 0).into()),
        // The wire has integers in two's complement.
        (Type::Int, Wire::Varint(n)) => Some(n.cast_signed().into()),
        (Type::Float, Wire::Fixed(bits)) => Some(f64::from_bits(bits).into()),
        (Type::Bytes, Wire::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        (Type::Message(inner), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            read_message(bytes, *inner, &mut map, depth + 1)?;
            Some(Value::Object(map))
        }
        (Type::Choice(inner), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            read_message(bytes, *inner, &mut map, depth + 1)?;
            let schema = map.remove("schema");
            Some(match (schema, inner.get().name.ends_with("OrBool")) {
                (Some(schema), _) => schema,
                (None, true) => map.get("allows").cloned().unwrap_or(false.into()),
                (None, false) => map
                    .into_iter()
                    .next()
                    .map_or(Value::Array(Vec::new()), |(_, v)| v),
            })
        }
        (Type::Quantity, Wire::Bytes(bytes)) => Some(lossy(first_bytes(bytes, message)?).into()),
        (Type::Items(of), Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            let mut reader = Reader::new(bytes, message);
            while let Some((_, wire)) = reader.next()? {
                items.extend(read_value(of, wire, message, depth + 1)?);
            }
            Some(items.into())
        }
        (Type::Json, Wire::Bytes(bytes)) => {
            serde_json::from_slice(first_bytes(bytes, message)?).ok()
        }
        (Type::IntOrString, Wire::Bytes(bytes)) => Some(int_or_string(bytes, message)?),
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => read_time(of, bytes, message)?,
        (Type::List(_) | Type::Map(_), _) => None,
        _ => return Err(malformed()),
    })
}

/// The first field of a message, which is bytes.
fn first_bytes<'a>(bytes: &'a [u8], message: &'static str) -> Result<&'a [u8], ProtobufError> {
    match Reader::new(bytes, message).next()? {
        Some((_, Wire::Bytes(inner))) => Ok(inner),
        _ => Ok(b""),
    }
}

fn int_or_string(bytes: &[u8], message: &'static str) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes, message);
    while let Some((field, wire)) = reader.next()? {
        match (field, wire) {
            (1, Wire::Varint(n)) => is_text = n == 1,
            (2, Wire::Varint(n)) => number = n.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = lossy(bytes),
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn read_time(
    of: &Type,
    bytes: &[u8],
    message: &'static str,
) -> Result<Option<Value>, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes, message);
    while let Some((field, wire)) = reader.next()? {
        match (field, wire) {
            (1, Wire::Varint(n)) => seconds = n.cast_signed(),
            (2, Wire::Varint(n)) => nanos = i32::try_from(n).unwrap_or(0),
            _ => {}
        }
    }
    // An unset time is sent as an empty message.
    if bytes.is_empty() {
        return Ok(None);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed(message))?;
    Ok(Some(match of {
        Type::MicroTime => time::micro(time).into(),
        _ => time::rfc3339(time).into(),
    }))
}

#[cfg(test)]
mod tests;
