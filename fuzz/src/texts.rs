//! Short texts: selectors, paths, quantities, the line of a request.

use std::hint::black_box;

use machinery::apply::FieldSet;
use machinery::jsonpath::JsonPath;
use machinery::quantity::Quantity;
use machinery::{fields, labels};
use serde_json::{Value, json};

/// The bytes as text; what is no text is none.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Label selectors, which read back what they print.
pub(crate) fn labels(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(selector) = labels::Selector::parse(text) {
        black_box(selector.matches(|key| (key.len() % 2 == 0).then_some("a")));
        let shown = selector.to_string();
        let again = labels::Selector::parse(&shown);
        assert_eq!(again.map(|s| s.to_string()), Ok(shown));
    }
}

/// Field selectors.
pub(crate) fn fields(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(selector) = fields::Selector::parse(text) {
        black_box(selector.matches(|field| Some(field.to_owned())));
    }
}

/// JSONPath of columns, and what it finds.
pub(crate) fn json_path(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let root = json!({"a": [{"b": 1}, {"b": "x"}, []], "c": {"d e": null}});
    if let Ok(path) = JsonPath::parse(text) {
        black_box(path.find(&root).len());
    }
}

/// `managedFields`, which encode to what they were decoded from.
pub(crate) fn owned_fields(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    if let Ok(set) = FieldSet::decode(&value) {
        let encoded = set.encode();
        let again = FieldSet::decode(&encoded);
        assert_eq!(again.map(|s| s.encode()), Ok(encoded));
    }
}

/// Quantities, which read back what they print.
pub(crate) fn quantity(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(quantity) = Quantity::parse(text) {
        black_box((quantity.value(), quantity.milli_value()));
        let shown = quantity.to_string();
        let again = Quantity::parse(&shown);
        assert!(again.is_ok(), "{text:?} prints as {shown:?}");
    }
}

/// What a request asks for, from its method, path, query and headers: a line each.
pub(crate) fn http_front(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut lines = text.split('\n');
    let (method, target) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    black_box(apiserver::probe(method, target, lines.next().unwrap_or("")));
}
