//! What operations answer, and of which kind they are: the end of each in both versions of the document.

use serde_json::{Map, Value, json};

use super::model::{Content, Operation};
use super::schemas::Dialect;

/// Says what an operation answers. `place` gives the field for a schema of content, and its value.
pub(super) fn finish(
    operation: &Operation,
    dialect: Dialect,
    place: impl Fn(Value) -> (&'static str, Value),
    out: &mut Value,
) {
    let mut responses = Map::new();
    for (code, content) in &operation.answers {
        let (field, schema) = place(match content {
            Content::Object(name) => dialect.reference(name),
            Content::Text | Content::Stream => json!({"type": "string"}),
        });
        let mut answer = json!({"description": reason(*code)});
        answer[field] = schema;
        responses.insert(code.to_string(), answer);
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    out["responses"] = Value::Object(responses);
    if !operation.action.is_empty() {
        out["x-kubernetes-action"] = operation.action.into();
    }
    if let Some([group, version, kind]) = &operation.gvk {
        let gvk = json!({"group": group, "version": version, "kind": kind});
        out["x-kubernetes-group-version-kind"] = gvk;
    }
}

/// The words of a status code.
fn reason(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}
