//! OpenAPI v3: a document a group version.

use serde_json::{Map, Value, json};

use super::answers::finish;
use super::model::{Operation, Operations, Parameter, split_parameters};
use super::operations::of_group_version;
use super::schemas::{Definitions, Dialect, collect};
use super::{ServedResource, Source, VERSION, own};

/// The document of a group version, `/openapi/v3/apis/apps/v1`.
///
/// `resources` are all that the server has: schemas of other groups' kinds are named too. `source` gives the schemas.
pub fn group_version_document(
    group: &str,
    version: &str,
    resources: &[ServedResource],
    source: Source<'_>,
) -> Value {
    let operations = of_group_version(group, version, resources);
    let schemas = collect(&operations, resources, source, Dialect::V3);
    document(paths(&operations), schemas)
}

/// The document of what a server says of itself at one of [`OWN_PATHS`](super::OWN_PATHS) or in a group's discovery:
/// `/openapi/v3/version`, `/openapi/v3/apis`, `/openapi/v3/apis/apps`. None of a path where there is no such thing.
pub fn own_document(path: &str, source: Source<'_>) -> Option<Value> {
    let (path, operation) = own::at(path)?;
    let operations = Operations::from([(path, vec![operation])]);
    let schemas = collect(&operations, &[], source, Dialect::V3);
    Some(document(paths(&operations), schemas))
}

fn document(paths: Map<String, Value>, schemas: Definitions) -> Value {
    let mut components = json!({
        "securitySchemes": {"BearerToken": {
            "description": "Bearer Token authentication", "in": "header",
            "name": "authorization", "type": "apiKey",
        }},
    });
    if !schemas.is_empty() {
        components["schemas"] = Value::Object(schemas);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": components,
    })
}

fn paths(operations: &Operations) -> Map<String, Value> {
    let mut out = Map::new();
    for (path, operations) in operations {
        let (common, own) = split_parameters(operations);
        let mut item = Map::new();
        for (operation, own) in operations.iter().zip(own) {
            item.insert(operation.method.to_owned(), render(operation, &own));
        }
        if !common.is_empty() {
            item.insert("parameters".to_owned(), parameters(&common));
        }
        out.insert(path.clone(), Value::Object(item));
    }
    out
}

fn parameters(list: &[&Parameter]) -> Value {
    let one = |p: &&Parameter| {
        let mut out = json!({
            "name": p.name, "in": if p.in_path { "path" } else { "query" },
            "description": p.description, "schema": {"type": p.kind, "uniqueItems": true},
        });
        if p.in_path {
            out["required"] = true.into();
        }
        out
    };
    list.iter().map(one).collect()
}

fn render(operation: &Operation, own: &[&Parameter]) -> Value {
    let mut out = json!({
        "operationId": operation.id, "description": operation.description, "tags": [operation.tag],
    });
    if !own.is_empty() {
        out["parameters"] = parameters(own);
    }
    if let Some((definition, required)) = &operation.body {
        let schema = json!({"schema": Dialect::V3.reference(definition)});
        let types: &[&str] = match operation.patch {
            [] => &["*/*"],
            types => types,
        };
        let content = types.iter().map(|t| ((*t).to_owned(), schema.clone()));
        out["requestBody"] = json!({"content": content.collect::<Map<_, _>>()});
        if *required {
            out["requestBody"]["required"] = true.into();
        }
    }
    let place = |schema: Value| {
        let schema = json!({"schema": schema});
        let types = operation.media.types().iter();
        let content: Map<_, _> = types.map(|t| ((*t).to_owned(), schema.clone())).collect();
        ("content", Value::Object(content))
    };
    finish(operation, Dialect::V3, place, &mut out);
    out
}
