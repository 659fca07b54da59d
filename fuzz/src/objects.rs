//! Objects and what changes them.

use std::hint::black_box;

use machinery::apply::{FieldSet, Versions, Writer, apply as server_side_apply, update};
use machinery::schema::Schema;
use machinery::structural::{Structural, check_rules, fill_defaults, prune, validate};
use machinery::{Object, Path, codec, patch};
use serde_json::Value;

/// JSON bodies.
pub(crate) fn decode_json(bytes: &[u8]) {
    if let Ok(decoded) = codec::decode_json(bytes) {
        look(decoded.object);
    }
}

/// YAML bodies.
pub(crate) fn decode_yaml(bytes: &[u8]) {
    if let Ok(decoded) = codec::decode_yaml(bytes) {
        look(decoded.object);
    }
}

/// CBOR bodies.
pub(crate) fn decode_cbor(bytes: &[u8]) {
    if let Ok(decoded) = codec::decode_cbor(bytes) {
        look(decoded.object);
    }
}

/// Protobuf bodies.
pub(crate) fn decode_protobuf(bytes: &[u8]) {
    if let Ok(object) = apiserver::decode_protobuf(bytes) {
        look(object);
    }
}

/// What every write does with an object of a kind of the program.
fn look(mut object: Object) {
    let version = object.api_version().to_owned();
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let Some(kind) = api::by_kind(group, version, object.kind()) else {
        black_box(object.encode());
        return;
    };
    let report = kind.check_fields(&mut object, &[]);
    if report.type_error.is_none() && kind.default(&mut object).is_ok() {
        black_box(object.encode());
    }
}

/// Two JSON documents, one after the other.
fn pair(bytes: &[u8]) -> Option<(Value, Value)> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
    Some((values.next()?.ok()?, values.next()?.ok()?))
}

fn pods() -> Schema {
    let kind = api::by_kind("", "v1", "Pod").expect("a kind of the program");
    kind.schema().expect("every kind has a schema")
}

/// JSON patches.
pub(crate) fn patch_json(bytes: &[u8]) {
    let Some((mut target, patch)) = pair(bytes) else {
        return;
    };
    let _ = black_box(patch::json::apply(&mut target, &patch));
}

/// Strategic merge patches of pods, and merge patches of anything.
pub(crate) fn patch_strategic(bytes: &[u8]) {
    let Some((target, patch)) = pair(bytes) else {
        return;
    };
    let mut merged = target.clone();
    patch::merge::apply(&mut merged, &patch);
    let mut target = target;
    let schema = pods();
    let _ = black_box(patch::strategic::apply(&mut target, &patch, Some(&schema)));
}

/// Server-side apply to pods: applying the same again changes nothing.
pub(crate) fn apply(bytes: &[u8]) {
    let Some((live, config)) = pair(bytes) else {
        return;
    };
    let (Ok(mut live), Ok(config)) = (Object::from_value(live), Object::from_value(config)) else {
        return;
    };
    let (schema, nothing, versions) = (pods(), FieldSet::new(), Versions::default());
    let writer = Writer {
        manager: "fuzz",
        api_version: "v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        schema: &schema,
        reset_fields: &nothing,
        versions: &versions,
    };
    if update(None, &mut live, &writer).is_err() {
        return;
    }
    let Ok(made) = server_side_apply(Some(&live), &config, &writer, true) else {
        return;
    };
    black_box(server_side_apply(Some(&made), &config, &writer, false)).ok();
}

/// A custom kind's schema, and an object of the kind.
pub(crate) fn custom_schema(bytes: &[u8]) {
    let Some((schema, mut value)) = pair(bytes) else {
        return;
    };
    let schema = Structural::read(&schema);
    fill_defaults(&mut value, &schema);
    black_box(validate(&value, None, &schema, &Path::default()));
    black_box(check_rules(&value, None, &schema));
    black_box(prune(&mut value, &schema, true));
}
