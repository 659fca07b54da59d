//! CBOR (RFC 8949), as the API speaks it, both ways.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/runtime/serializer/cbor`. What is written begins with the tag of self-described
//! CBOR, and texts are byte strings, because only those can be read into every field that holds a text in JSON (client-go
//! takes a text string for no field of bytes). What is read may be of definite or indefinite length, with or without that
//! tag. Bounds: size and depth as for JSON; a key that appears twice is an error here, never a warning; numbers beyond 64
//! bits, NaN and infinities have no form in JSON and are refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium_ll::{Decoder, Header, simple};
use serde_json::{Map, Number, Value};

use super::{DecodeError, Decoded, MAX_DEPTH, into_object, within};

/// The tag that says "this is CBOR".
const SELF_DESCRIBED: u64 = 55799;
/// Bytes that are to be shown in base64.
const AS_BASE64: u64 = 22;
/// A time as a text.
const TIME_TEXT: u64 = 0;
/// Tags whose content means something that JSON cannot say: times as numbers, big numbers, other forms of bytes.
const REFUSED_TAGS: [u64; 5] = [1, 2, 3, 21, 23];
/// Strings are read in pieces of this size.
const PIECE: usize = 4096;

/// Reads one object.
///
/// # Errors
/// Not CBOR, no object, too large or too deep, or a key that appears twice.
pub fn decode_cbor(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let object = into_object(decode_cbor_value(bytes)?)?;
    let duplicates = Vec::new();
    Ok(Decoded { object, duplicates })
}

/// Reads one value of any type.
///
/// # Errors
/// As [`decode_cbor`].
pub fn decode_cbor_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    within(bytes)?;
    let mut reader = Reader {
        decoder: Decoder::from(bytes),
    };
    let header = reader.header()?;
    let value = reader.value(header, 0)?;
    if reader.decoder.offset() < bytes.len() {
        let extra = bytes.len() - reader.decoder.offset();
        let index = reader.decoder.offset();
        return Err(DecodeError::Syntax(format!(
            "cbor: {extra} bytes of extraneous data starting at index {index}"
        )));
    }
    Ok(value)
}

struct Reader<'a> {
    decoder: Decoder<&'a [u8]>,
}

fn syntax(text: impl Into<String>) -> DecodeError {
    DecodeError::Syntax(text.into())
}

fn broken<E>(error: ciborium_ll::Error<E>) -> DecodeError {
    match error {
        ciborium_ll::Error::Io(_) => syntax("unexpected EOF"),
        ciborium_ll::Error::Syntax(at) => syntax(format!("cbor: malformed item at index {at}")),
    }
}

impl Reader<'_> {
    fn header(&mut self) -> Result<Header, DecodeError> {
        self.decoder.pull().map_err(broken)
    }

    fn value(&mut self, header: Header, depth: usize) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(syntax(format!(
                "cbor: exceeded max nested level {MAX_DEPTH}"
            )));
        }
        Ok(match header {
            Header::Positive(n) => signed(n)?.into(),
            Header::Negative(n) => (!signed(n)?).into(),
            Header::Float(f) => {
                let number = Number::from_f64(f).map(Value::Number);
                number
                    .ok_or_else(|| syntax("cbor: floating-point NaN and infinity are forbidden"))?
            }
            Header::Simple(simple::FALSE) => false.into(),
            Header::Simple(simple::TRUE) => true.into(),
            Header::Simple(simple::NULL) => Value::Null,
            Header::Simple(n) => {
                return Err(syntax(format!("cbor: simple value {n} is not recognized")));
            }
            Header::Text(_) | Header::Bytes(_) => self.text(header)?.into(),
            Header::Tag(tag) => self.tagged(tag, depth)?,
            Header::Array(length) => self.array(length, depth)?,
            Header::Map(length) => self.map(length, depth)?,
            Header::Break => return Err(syntax("cbor: unexpected \"break\" code")),
        })
    }

    fn tagged(&mut self, tag: u64, depth: usize) -> Result<Value, DecodeError> {
        let inner = self.header()?;
        match (tag, inner) {
            (SELF_DESCRIBED, _) => self.value(inner, depth + 1),
            (AS_BASE64, Header::Bytes(length)) => Ok(STANDARD.encode(self.bytes(length)?).into()),
            (TIME_TEXT, Header::Text(_) | Header::Bytes(_)) => Ok(self.text(inner)?.into()),
            (TIME_TEXT | AS_BASE64, _) => {
                Err(syntax(format!("cbor: unexpected content of tag {tag}")))
            }
            (tag, _) if REFUSED_TAGS.contains(&tag) => {
                Err(syntax(format!("cbor: tag {tag} is not accepted")))
            }
            _ => self.value(inner, depth + 1),
        }
    }

    fn array(&mut self, length: Option<usize>, depth: usize) -> Result<Value, DecodeError> {
        let mut items = Vec::new();
        while length.is_none_or(|n| items.len() < n) {
            match self.header()? {
                Header::Break if length.is_none() => break,
                header => items.push(self.value(header, depth + 1)?),
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, length: Option<usize>, depth: usize) -> Result<Value, DecodeError> {
        let mut map = Map::new();
        while length.is_none_or(|n| map.len() < n) {
            let key = match self.header()? {
                Header::Break if length.is_none() => break,
                header @ (Header::Text(_) | Header::Bytes(_)) => self.text(header)?,
                _ => return Err(syntax("cbor: a map key must be a string")),
            };
            let header = self.header()?;
            let value = self.value(header, depth + 1)?;
            if map.contains_key(&key) {
                return Err(syntax(format!("cbor: found duplicate map key {key:?}")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    /// A string of either type, which has to be text.
    fn text(&mut self, header: Header) -> Result<String, DecodeError> {
        match header {
            Header::Bytes(length) => {
                let bytes = self.bytes(length)?;
                String::from_utf8(bytes).map_err(|_| syntax("cbor: invalid UTF-8 string"))
            }
            Header::Text(length) => {
                let (mut text, mut piece) = (String::new(), [0; PIECE]);
                let mut segments = self.decoder.text(length);
                while let Some(mut segment) = segments.pull().map_err(broken)? {
                    while let Some(part) = segment.pull(&mut piece).map_err(broken)? {
                        text.push_str(part);
                    }
                }
                Ok(text)
            }
            _ => Err(syntax("cbor: not a string")),
        }
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Vec<u8>, DecodeError> {
        let (mut bytes, mut piece) = (Vec::new(), [0; PIECE]);
        let mut segments = self.decoder.bytes(length);
        while let Some(mut segment) = segments.pull().map_err(broken)? {
            while let Some(part) = segment.pull(&mut piece).map_err(broken)? {
                bytes.extend_from_slice(part);
            }
        }
        Ok(bytes)
    }
}

fn signed(n: u64) -> Result<i64, DecodeError> {
    i64::try_from(n).map_err(|_| syntax(format!("cbor: {n} overflows a 64-bit signed integer")))
}

/// Writes one value, self-described.
pub fn encode_cbor(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_head(&mut out, TAG, SELF_DESCRIBED);
    write_cbor(&mut out, value);
    out
}

const BYTES: u8 = 2;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Writes one value without the tag: a part of something that has it.
pub fn write_cbor(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(true) => out.push(0xf5),
        Value::Bool(false) => out.push(0xf4),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            write_head(out, ARRAY, items.len() as u64);
            items.iter().for_each(|item| write_cbor(out, item));
        }
        Value::Object(map) => {
            write_head(out, MAP, map.len() as u64);
            for (key, value) in map {
                write_text(out, key);
                write_cbor(out, value);
            }
        }
    }
}

/// Writes the head of a list of so many values, which are to follow.
pub fn write_cbor_array_head(out: &mut Vec<u8>, count: usize) {
    write_head(out, ARRAY, count as u64);
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => write_head(out, 0, n),
        (None, Some(n)) => write_head(out, 1, (!n).cast_unsigned()),
        (None, None) => {
            out.push(0xfb);
            out.extend_from_slice(&number.as_f64().unwrap_or(0.0).to_be_bytes());
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, BYTES, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The type of an item and its number, in the shortest form.
fn write_head(out: &mut Vec<u8>, major: u8, n: u64) {
    let major = major << 5;
    let bytes = n.to_be_bytes();
    match n {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}
