//! The protobuf form of a Swagger document (`openapi.v2.Document` of gnostic), for exactly the parts that we emit.
//!
//! A dozen message types with a few fields each: written by hand over the JSON tree, which spares a second copy of the
//! document in generated structs. Field numbers: `gnostic-models/openapiv2/OpenAPIv2.proto`.

use bytes::Bytes;
use serde_json::{Map, Value};

/// A message that grows.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits and the sign that more follow.
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|t| !t.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn texts(&mut self, field: u64, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten() {
            if let Some(text) = text.as_str() {
                self.bytes(field, text.as_bytes());
            }
        }
    }

    fn message(&mut self, field: u64, inner: Message) {
        self.bytes(field, &inner.0);
    }
}

/// A list of named things: each in field 1 of a message that has the name in field 1 and the thing in field 2.
fn named(map: &Map<String, Value>, write: impl Fn(&Value) -> Message) -> Message {
    named_in(1, map.iter(), write)
}

fn named_in<'a>(
    field: u64,
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
    write: impl Fn(&Value) -> Message,
) -> Message {
    let mut out = Message::default();
    for (name, value) in entries {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, write(value));
        out.message(field, entry);
    }
    out
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Any value is carried as its YAML, of which JSON is a part.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes(2, format!("{value}\n").as_bytes());
    out
}

/// All `x-` keys.
fn extensions(out: &mut Message, field: u64, map: &Value) {
    let entries = map.as_object().into_iter().flatten();
    let entries = entries.filter(|(key, _)| key.starts_with("x-"));
    out.0.extend(named_in(field, entries, any).0);
}

pub(super) fn document(json: &Value) -> Bytes {
    let mut out = Message::default();
    out.text(1, json.get("swagger"));
    let mut info = Message::default();
    info.text(1, json["info"].get("title"));
    info.text(2, json["info"].get("version"));
    out.message(2, info);
    let paths = json.get("paths").and_then(Value::as_object);
    let paths = paths.into_iter().flatten();
    out.message(8, named_in(2, paths, path_item));
    let definitions = json.get("definitions").and_then(Value::as_object);
    let definitions = definitions.into_iter().flatten();
    out.message(9, named_in(1, definitions, schema));
    out.message(10, named(&object(json.get("parameters")), parameter));
    for requirement in json["security"].as_array().into_iter().flatten() {
        let scopes = |value: &Value| {
            let mut list = Message::default();
            list.texts(1, Some(value));
            list
        };
        out.message(12, named(&object(Some(requirement)), scopes));
    }
    out.message(
        13,
        named(&object(json.get("securityDefinitions")), security),
    );
    Bytes::from(out.0)
}

fn security(json: &Value) -> Message {
    let mut key = Message::default();
    key.text(1, json.get("type"));
    key.text(2, json.get("name"));
    key.text(3, json.get("in"));
    key.text(4, json.get("description"));
    let mut out = Message::default();
    out.message(2, key);
    out
}

fn path_item(json: &Value) -> Message {
    const METHODS: [(&str, u64); 7] = [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("options", 6),
        ("head", 7),
        ("patch", 8),
    ];
    let mut out = Message::default();
    for (method, field) in METHODS {
        if let Some(json) = json.get(method) {
            out.message(field, operation(json));
        }
    }
    for json in json["parameters"].as_array().into_iter().flatten() {
        out.message(9, parameters_item(json));
    }
    extensions(&mut out, 10, json);
    out
}

fn operation(json: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, json.get("tags"));
    out.text(3, json.get("description"));
    out.text(5, json.get("operationId"));
    out.texts(6, json.get("produces"));
    out.texts(7, json.get("consumes"));
    for json in json["parameters"].as_array().into_iter().flatten() {
        out.message(8, parameters_item(json));
    }
    let responses = named(&object(json.get("responses")), |json| {
        let mut response = Message::default();
        response.text(1, json.get("description"));
        if let Some(json) = json.get("schema") {
            let mut item = Message::default();
            item.message(1, schema(json));
            response.message(2, item);
        }
        let mut value = Message::default();
        value.message(1, response);
        value
    });
    out.message(9, responses);
    out.texts(10, json.get("schemes"));
    extensions(&mut out, 13, json);
    out
}

fn parameters_item(json: &Value) -> Message {
    let mut out = Message::default();
    if let Some(reference) = json.get("$ref") {
        let mut target = Message::default();
        target.text(1, Some(reference));
        out.message(2, target);
    } else {
        out.message(1, parameter(json));
    }
    out
}

fn parameter(json: &Value) -> Message {
    let mut out = Message::default();
    let place = json["in"].as_str().unwrap_or("query");
    if place == "body" {
        let mut body = Message::default();
        body.text(1, json.get("description"));
        body.text(2, json.get("name"));
        body.text(3, json.get("in"));
        body.flag(4, json.get("required"));
        if let Some(json) = json.get("schema") {
            body.message(5, schema(json));
        }
        out.message(1, body);
        return out;
    }
    // Query parameters have one more field in the middle than path parameters.
    let (variant, shift) = if place == "path" { (4, 0) } else { (3, 1) };
    let mut own = Message::default();
    own.flag(1, json.get("required"));
    own.text(2, json.get("in"));
    own.text(3, json.get("description"));
    own.text(4, json.get("name"));
    own.text(5 + shift, json.get("type"));
    own.flag(19 + shift, json.get("uniqueItems"));
    let mut non_body = Message::default();
    non_body.message(variant, own);
    out.message(2, non_body);
    out
}

fn schema(json: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, json.get("$ref"));
    out.text(2, json.get("format"));
    out.text(4, json.get("description"));
    out.texts(19, json.get("required"));
    for value in json["enum"].as_array().into_iter().flatten() {
        out.message(20, any(value));
    }
    if let Some(json) = json.get("additionalProperties") {
        let mut item = Message::default();
        match json {
            Value::Bool(allowed) => {
                item.varint(2 << 3);
                item.varint(u64::from(*allowed));
            }
            json => item.message(1, schema(json)),
        }
        out.message(21, item);
    }
    if let Some(text) = json.get("type") {
        let mut list = Message::default();
        list.text(1, Some(text));
        out.message(22, list);
    }
    if let Some(json) = json.get("items") {
        let mut list = Message::default();
        list.message(1, schema(json));
        out.message(23, list);
    }
    if let Some(Value::Object(fields)) = json.get("properties") {
        out.message(25, named(fields, schema));
    }
    extensions(&mut out, 31, json);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Field numbers and lengths of a message, in text.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        let varint = |bytes: &mut &[u8]| {
            let (mut value, mut shift) = (0_u64, 0);
            loop {
                let (first, rest) = bytes.split_first().expect("a byte");
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                shift += 7;
                if first & 0x80 == 0 {
                    return value;
                }
            }
        };
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let length = varint(&mut bytes) as usize;
            assert_eq!(tag & 7, 2, "only length-delimited fields here");
            let (own, rest) = bytes.split_at(length);
            out.push((tag >> 3, own.to_vec()));
            bytes = rest;
        }
        out
    }

    #[test]
    fn messages_are_well_formed() {
        let json = json!({
            "swagger": "2.0", "info": {"title": "Kubernetes", "version": "x".repeat(200)},
            "paths": {"/a": {"get": {"operationId": "id", "responses": {"200": {"description": "OK"}}}}},
            "definitions": {"A": {"type": "object", "description": "d", "x-kubernetes-map-type": "atomic"}},
        });
        let bytes = document(&json);
        let all = fields(&bytes);
        assert_eq!(all[0], (1, b"2.0".to_vec()));
        assert_eq!(fields(&all[1].1)[1].1.len(), 200);
        let definitions = &all.iter().find(|(n, _)| *n == 9).expect("definitions").1;
        let entry = fields(&fields(definitions)[0].1);
        assert_eq!(entry[0], (1, b"A".to_vec()));
        let numbers: Vec<u64> = fields(&entry[1].1).into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, [4, 22, 31]);
        let paths = &all.iter().find(|(n, _)| *n == 8).expect("paths").1;
        assert_eq!(fields(paths)[0].0, 2);
    }
}
