//! The kind `Shout`. In its first version the words are one text; the second has them one by one and is what is stored.

use serde_json::{Value, json};

/// The API group.
pub(crate) const GROUP: &str = "demo.oxikube.io";
/// The resource.
pub(crate) const PLURAL: &str = "shouts";

/// The versions of the definition.
pub(crate) fn versions() -> Value {
    let status = json!({"type": "object", "properties": {
        "shouted": {"type": "string"}, "by": {"type": "string"}}});
    let schema = |spec: Value| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec}, "status": status}}})
    };
    let columns = json!([{"name": "Shouted", "type": "string", "jsonPath": ".status.shouted"}]);
    json!([
        {
            "name": "v1", "served": true, "storage": false, "subresources": {"status": {}},
            "schema": schema(json!({"text": {"type": "string"}, "loud": {"type": "boolean"}})),
            "additionalPrinterColumns": columns,
        },
        {
            "name": "v2", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": schema(json!({
                "words": {"type": "array", "items": {"type": "string"}},
                "volume": {"type": "string", "enum": ["quiet", "loud"], "default": "quiet"},
            })),
            "additionalPrinterColumns": columns,
        },
    ])
}

/// A shout in the version that is wanted.
///
/// # Errors
/// There is no such version.
pub(crate) fn convert(mut object: Value, wanted: &str) -> Result<Value, String> {
    let spec = object["spec"].clone();
    object["spec"] = match wanted {
        "demo.oxikube.io/v2" => {
            let text = spec["text"].as_str().unwrap_or("");
            let words: Vec<&str> = text.split_whitespace().collect();
            let loud = spec["loud"] == true;
            json!({"words": words, "volume": if loud { "loud" } else { "quiet" }})
        }
        "demo.oxikube.io/v1" => {
            let words = spec["words"].as_array().into_iter().flatten();
            let words: Vec<&str> = words.filter_map(Value::as_str).collect();
            json!({"text": words.join(" "), "loud": spec["volume"] == "loud"})
        }
        other => return Err(format!("there is no version {other}")),
    };
    object["apiVersion"] = wanted.into();
    Ok(object)
}

/// What is shouted.
pub(crate) fn shouted(spec: &Value) -> String {
    let words = spec["words"].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let text = words.join(" ");
    match spec["volume"] == "loud" {
        true => text.to_uppercase() + "!",
        false => text,
    }
}
