//! OpenAPI v3: a document a group version.

use serde_json::{Map, Value, json};

use super::answers::finish;
use super::model::{Content, Media, Operation, Operations, Parameter, split_parameters};
use super::operations::{base_path, group_tag, of_group_version, upper_first};
use super::schemas::{Definitions, Dialect, collect};
use super::{ServedResource, Source};

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

/// The document of a group's discovery, `/openapi/v3/apis/apps`.
pub fn group_document(group: &str, source: Source<'_>) -> Value {
    const GROUP: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup";
    let path = base_path(group, "");
    let words = upper_first(&group_tag(group));
    discovery(
        &path,
        "get information of a group",
        &format!("get{words}APIGroup"),
        &group_tag(group),
        GROUP,
        source,
    )
}

/// The document of the list of groups, `/openapi/v3/apis`.
pub fn groups_document(source: Source<'_>) -> Value {
    const LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList";
    discovery(
        "/apis/",
        "get available API versions",
        "getAPIVersions",
        "apis",
        LIST,
        source,
    )
}

/// The document of the versions of the core group, `/openapi/v3/api`.
pub fn core_versions_document(source: Source<'_>) -> Value {
    const VERSIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions";
    discovery(
        "/api/",
        "get available API versions",
        "getCoreAPIVersions",
        "core",
        VERSIONS,
        source,
    )
}

fn discovery(
    path: &str,
    text: &str,
    id: &str,
    tag: &str,
    answer: &str,
    source: Source<'_>,
) -> Value {
    let operation = Operation {
        method: "get",
        id: id.to_owned(),
        description: text.to_owned(),
        tag: tag.to_owned(),
        action: "",
        gvk: None,
        parameters: Vec::new(),
        body: None,
        patch: &[],
        answers: vec![(200, Content::Object(answer.to_owned()))],
        media: Media::Object,
    };
    let operations = Operations::from([(path.to_owned(), vec![operation])]);
    let schemas = collect(&operations, &[], source, Dialect::V3);
    document(paths(&operations), schemas)
}

fn document(paths: Map<String, Value>, schemas: Definitions) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {
                "description": "Bearer Token authentication", "in": "header",
                "name": "authorization", "type": "apiKey",
            }},
        },
        "security": [{"BearerToken": []}],
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
