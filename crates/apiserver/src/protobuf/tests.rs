use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{ProtobufError, decode, encode, table};

fn text(number: u8, text: &str) -> Vec<u8> {
    bytes(number, text.as_bytes())
}

fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![
        number << 3 | 2,
        u8::try_from(value.len()).expect("a short value"),
    ];
    out.extend_from_slice(value);
    out
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [text(1, api_version), text(2, kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
}

#[test]
fn a_config_map_becomes_the_tree_that_json_makes() {
    // An unset time, an empty generateName and a map entry, as client-go sends them.
    let metadata = [text(1, "x"), text(2, ""), bytes(8, b"")].concat();
    let data = bytes(2, &[text(1, "a"), text(2, "b")].concat());
    let raw = [bytes(1, &metadata), data].concat();
    let object = decode(&envelope("v1", "ConfigMap", &raw)).expect("an object");
    let wanted = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"},
    });
    assert_eq!(object.into_value(), wanted);
}

#[test]
fn zeros_stay_where_they_mean_something() {
    // replicas: a pointer, so 0 is a wish; minReadySeconds: always sent.
    let spec = [vec![1 << 3, 0], vec![5 << 3, 0]].concat();
    let object = decode(&envelope("apps/v1", "Deployment", &bytes(2, &spec))).expect("an object");
    assert_eq!(object.0["spec"], json!({"replicas": 0}));
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    let cut = envelope("v1", "Pod", &[10, 200]);
    assert!(matches!(decode(&cut), Err(ProtobufError::Malformed(_))));
    let unknown = decode(&envelope("v1", "Nothing", b""));
    assert!(matches!(unknown, Err(ProtobufError::UnknownKind { .. })));
}

#[test]
fn every_message_that_the_table_names_is_in_it() {
    for message in table::named() {
        // Some messages have no fields at all.
        let known = !message.fields.is_empty() || message.name.contains('.');
        assert!(known, "{}", message.name);
    }
}

#[test]
fn every_kind_that_is_served_is_in_the_table() {
    for names in api::KINDS.iter().map(|k| k.names()) {
        assert!(
            table::of_kind(&names.api_version(), names.kind).is_some(),
            "{}",
            names.kind
        );
        let list = table::of_kind(&names.api_version(), &names.list_kind());
        let is_kept = names_are_listed(names.kind, names.group);
        assert!(list.is_some() || !is_kept, "{}List", names.kind);
    }
}

fn names_are_listed(kind: &str, group: &str) -> bool {
    let found = api::KINDS.iter().find(|k| {
        let names = k.names();
        (names.kind, names.group) == (kind, group)
    });
    found.is_some_and(|k| k.verbs().contains(&api::Verb::List))
}

/// A tree without what says nothing: nulls, empty objects and lists.
fn meaning(value: &Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(k, v)| (k.clone(), meaning(v)));
            Value::Object(kept.filter(|(_, v)| !is_empty(v)).collect())
        }
        Value::Array(list) => list.iter().map(meaning).collect(),
        other => other.clone(),
    }
}

/// Objects with random contents, each as client-go v0.37 encodes it in both forms.
#[test]
fn both_forms_of_client_go_say_the_same() {
    for line in include_str!("testdata/client-go.jsonl").lines() {
        let pair: Value = serde_json::from_str(line).expect("a line of JSON");
        let bytes = pair["protobuf"].as_str().map(|text| STANDARD.decode(text));
        let bytes = bytes.expect("a text").expect("base64");
        let object = decode(&bytes).expect("an object").into_value();
        let kind = object["kind"].as_str().unwrap_or("").to_owned();
        pretty_assert(&kind, &meaning(&object), &meaning(&pair["json"]), "");
    }
}

/// What is written is read as the same tree, and says what client-go says.
#[test]
fn what_is_written_is_read_again() {
    for line in include_str!("testdata/client-go.jsonl").lines() {
        let pair: Value = serde_json::from_str(line).expect("a line of JSON");
        let kind = pair["json"]["kind"].as_str().unwrap_or("").to_owned();
        let bytes = encode(&pair["json"]).expect("a kind of the table");
        let object = decode(&bytes).expect("an object").into_value();
        pretty_assert(&kind, &meaning(&object), &meaning(&pair["json"]), "");
    }
}

/// Lengths of one, two and three bytes.
#[test]
fn long_texts_have_long_lengths() {
    for length in [0, 1, 100, 127, 128, 5000, 20_000] {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"},
            "data": {"k": "v".repeat(length)},
        });
        let bytes = encode(&object).expect("a kind of the table");
        assert_eq!(decode(&bytes).expect("an object").into_value(), object);
    }
}

/// The bytes that client-go v0.37 reads and writes for a watch event of a small object.
#[test]
fn a_watch_frame_has_its_length_first() {
    let mut out = Vec::new();
    super::write_watch_frame(&mut out, "ADDED", b"k8s\0object");
    let event = [text(1, "ADDED"), bytes(2, &bytes(1, b"k8s\0object"))].concat();
    let length = u32::try_from(event.len()).expect("short").to_be_bytes();
    assert_eq!(out, [length.to_vec(), event].concat());
}

#[track_caller]
fn pretty_assert(kind: &str, ours: &Value, theirs: &Value, path: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for key in ours.keys().chain(theirs.keys()) {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                pretty_assert(kind, &of(ours), &of(theirs), &format!("{path}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                pretty_assert(kind, ours, theirs, &format!("{path}[{i}]"));
            }
        }
        // Bytes that are nil and bytes that are none.
        (Value::String(text), Value::Null) if text.is_empty() => {}
        _ => assert_eq!(ours, theirs, "{kind}{path}"),
    }
}

proptest::proptest! {
    /// Whatever a client sends is an object or an error.
    #[test]
    fn no_bytes_make_the_reader_panic(raw: Vec<u8>, line in 0_usize..32, at: usize, byte: u8) {
        let _ = decode(&raw);
        let _ = decode(&envelope("v1", "Pod", &raw[..raw.len().min(200)]));
        let text = include_str!("testdata/client-go.jsonl").lines().nth(line).unwrap_or("{}");
        let pair: Value = serde_json::from_str(text).expect("a line of JSON");
        let mut bytes = STANDARD.decode(pair["protobuf"].as_str().unwrap_or("")).expect("base64");
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = decode(&bytes);
    }
}
