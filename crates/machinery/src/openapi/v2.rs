//! OpenAPI v2 (Swagger): one document of everything, as JSON and as protobuf.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answers::finish;
use super::model::{Content, Operation, Operations, Parameter, split_parameters};
use super::operations::of_group_version;
use super::schemas::{Dialect, collect};
use super::{ServedResource, Source, VERSION, own, proto};
use crate::hash;

/// The media type of [`encode_protobuf`].
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The document of all resources.
pub fn document(resources: &[ServedResource], source: Source<'_>) -> Value {
    let mut group_versions: Vec<(&str, &str)> = resources
        .iter()
        .map(|r| (r.group.as_str(), r.version.as_str()))
        .collect();
    group_versions.sort_unstable();
    group_versions.dedup();
    let mut operations = Operations::new();
    for (group, version) in group_versions {
        operations.extend(of_group_version(group, version, resources));
    }
    let groups = resources.iter().map(|r| r.group.as_str());
    let groups: BTreeSet<&str> = groups.filter(|group| !group.is_empty()).collect();
    let groups = groups.iter().map(|group| format!("apis/{group}"));
    let own_paths = own::PATHS.iter().map(|path| (*path).to_owned());
    for (path, operation) in own_paths.chain(groups).filter_map(|path| own::at(&path)) {
        operations.insert(path, vec![operation]);
    }
    let definitions = collect(&operations, resources, source, Dialect::V2);
    let mut shared = Shared::default();
    let paths: Map<String, Value> = operations
        .iter()
        .map(|(path, operations)| (path.clone(), item(operations, &mut shared)))
        .collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": definitions,
        "parameters": shared.parameters,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey",
            "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// The protobuf form of a document that [`document`] made.
pub fn encode_protobuf(document: &Value) -> Bytes {
    proto::document(document)
}

/// Parameters that stand once and are referred to: their descriptions are long and their uses many.
#[derive(Default)]
struct Shared {
    parameters: BTreeMap<String, Value>,
}

/// Clients look for these in each operation and do not follow references.
const INLINE: [&str; 3] = ["dryRun", "fieldValidation", "name"];

impl Shared {
    fn refer(&mut self, name: &str, parameter: Value) -> Value {
        let text = parameter.to_string();
        let suffix = hash::safe_encode(&hash::fnv32a(text.as_bytes()).to_string());
        let key = format!("{name}-{suffix}");
        let reference = json!({"$ref": format!("#/parameters/{key}")});
        self.parameters.entry(key).or_insert(parameter);
        reference
    }

    fn parameter(&mut self, p: &Parameter) -> Value {
        let mut out = json!({
            "uniqueItems": true, "type": p.kind, "description": p.description, "name": p.name,
            "in": if p.in_path { "path" } else { "query" },
        });
        if p.in_path {
            out["required"] = true.into();
        }
        if INLINE.contains(&p.name) {
            out
        } else {
            self.refer(p.name, out)
        }
    }

    fn body(&mut self, definition: &str, required: bool) -> Value {
        let mut out =
            json!({"name": "body", "in": "body", "schema": Dialect::V2.reference(definition)});
        if required {
            out["required"] = true.into();
        }
        let often = definition.contains(".apis.meta.v1.");
        if often { self.refer("body", out) } else { out }
    }
}

fn item(operations: &[Operation], shared: &mut Shared) -> Value {
    let (common, own) = split_parameters(operations);
    let mut item = Map::new();
    for (operation, own) in operations.iter().zip(own) {
        item.insert(operation.method.to_owned(), render(operation, &own, shared));
    }
    if !common.is_empty() {
        let common = common.into_iter().map(|p| shared.parameter(p)).collect();
        item.insert("parameters".to_owned(), common);
    }
    Value::Object(item)
}

fn render(operation: &Operation, own: &[&Parameter], shared: &mut Shared) -> Value {
    let consumes: &[&str] = match (operation.patch, operation.action, &*operation.answers) {
        // Discovery.
        ([], "", [(_, Content::Object(_))]) => operation.media.types(),
        ([], "", _) => &[],
        ([], ..) => &["*/*"],
        (types, ..) => types,
    };
    let mut out = json!({
        "operationId": operation.id, "description": operation.description, "tags": [operation.tag],
        "schemes": ["https"], "produces": operation.media.types(),
    });
    if !consumes.is_empty() {
        out["consumes"] = json!(consumes);
    }
    let mut parameters = Vec::new();
    if let Some((definition, required)) = &operation.body {
        parameters.push(shared.body(definition, *required));
    }
    parameters.extend(own.iter().map(|p| shared.parameter(p)));
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    finish(
        operation,
        Dialect::V2,
        |schema| ("schema", schema),
        &mut out,
    );
    out
}
