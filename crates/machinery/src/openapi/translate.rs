//! A document of version 2 that somebody else has written, as one of version 3.
//!
//! What version 2 cannot say is lost. Behaviour: `k8s.io/kube-openapi/pkg/openapiconv`; beyond it, parameters that are
//! referred to come along.

use serde_json::{Map, Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];
/// What of an operation stays as it is, beside extensions.
const OF_OPERATIONS: [&str; 6] = [
    "description",
    "externalDocs",
    "tags",
    "summary",
    "deprecated",
    "operationId",
];
const OF_PARAMETERS: [&str; 6] = [
    "name",
    "description",
    "in",
    "required",
    "allowEmptyValue",
    "$ref",
];
const OF_SECURITY: [&str; 4] = ["description", "type", "name", "in"];

/// The document in version 3.
pub fn translate(second: &Value) -> Value {
    let each = |part: &str, convert: &dyn Fn(&Value) -> Value| -> Option<Value> {
        let all = second[part].as_object()?.iter();
        Some(
            all.map(|(name, value)| (name.clone(), convert(value)))
                .collect(),
        )
    };
    let produces = &second["produces"];
    let components = [
        ("schemas", each("definitions", &schema)),
        ("securitySchemes", each("securityDefinitions", &security)),
        ("responses", each("responses", &|r| response(r, produces))),
        ("parameters", each("parameters", &parameter)),
    ];
    let components = components.into_iter();
    let components: Map<_, _> = components
        .filter_map(|(name, part)| Some((name.to_owned(), part?)))
        .collect();
    let mut out = json!({
        "openapi": "3.0.0", "info": second["info"], "components": components,
        "paths": each("paths", &item).unwrap_or_else(|| json!({})),
    });
    if let Some(docs) = second.get("externalDocs") {
        out["externalDocs"] = docs.clone();
    }
    out
}

/// The fields of these names, and extensions; references point elsewhere.
fn keep(from: &Value, names: &[&str]) -> Map<String, Value> {
    let fields = from.as_object().into_iter().flatten();
    let kept = fields.filter(|(name, _)| names.contains(&&***name) || name.starts_with("x-"));
    let kept = kept.map(|(name, value)| match (name.as_str(), value) {
        ("$ref", Value::String(to)) => (name.clone(), moved(to).into()),
        _ => (name.clone(), value.clone()),
    });
    kept.collect()
}

/// Where a reference points in version 3.
fn moved(to: &str) -> String {
    const PLACES: [(&str, &str); 3] = [
        ("#/definitions/", "#/components/schemas/"),
        ("#/parameters/", "#/components/parameters/"),
        ("#/responses/", "#/components/responses/"),
    ];
    let found = PLACES
        .iter()
        .find_map(|(from, into)| Some(format!("{into}{}", to.strip_prefix(from)?)));
    found.unwrap_or_else(|| to.to_owned())
}

fn item(second: &Value) -> Value {
    let mut out = keep(second, &["$ref"]);
    for method in METHODS {
        if let Some(found) = second.get(method) {
            out.insert(method.to_owned(), operation(found));
        }
    }
    if let Some(all) = second["parameters"].as_array() {
        let all = all.iter().map(parameter).collect();
        out.insert("parameters".to_owned(), all);
    }
    out.into()
}

fn operation(second: &Value) -> Value {
    let mut out = keep(second, &OF_OPERATIONS);
    let parameters = second["parameters"].as_array().into_iter().flatten();
    let (bodies, others): (Vec<&Value>, Vec<&Value>) =
        parameters.partition(|p| p["name"] == "body" && p.get("schema").is_some());
    if let Some(body) = bodies.last() {
        let content = content(&second["consumes"], &body["schema"]);
        out.insert("requestBody".to_owned(), json!({"content": content}));
    }
    if !others.is_empty() {
        let others = others.into_iter().map(parameter).collect();
        out.insert("parameters".to_owned(), others);
    }
    let answers = second["responses"].as_object().into_iter().flatten();
    let answers = answers.map(|(code, answer)| match code.starts_with("x-") {
        true => (code.clone(), answer.clone()),
        false => (code.clone(), response(answer, &second["produces"])),
    });
    out.insert("responses".to_owned(), answers.collect());
    out.into()
}

/// The same schema in each of these media types.
fn content(media: &Value, second: &Value) -> Value {
    let media = media.as_array().into_iter().flatten();
    let media = media.filter_map(Value::as_str);
    media
        .map(|media| (media.to_owned(), json!({"schema": schema(second)})))
        .collect()
}

fn response(second: &Value, produces: &Value) -> Value {
    let mut out = keep(second, &["description", "$ref"]);
    if let Some(schema) = second.get("schema") {
        out.insert("content".to_owned(), content(produces, schema));
    }
    out.into()
}

fn parameter(second: &Value) -> Value {
    let mut out = keep(second, &OF_PARAMETERS);
    if !out.contains_key("$ref") {
        let schema = match second.get("schema") {
            Some(found) => schema(found),
            None => keep(second, &["type", "format", "uniqueItems"])
                .into_iter()
                .filter(|(name, _)| !name.starts_with("x-"))
                .collect(),
        };
        out.insert("schema".to_owned(), schema);
    }
    out.into()
}

fn security(second: &Value) -> Value {
    let mut out = keep(second, &OF_SECURITY);
    if let Some(flow) = second["flow"].as_str() {
        let mut fields = keep(second, &["authorizationUrl", "tokenUrl", "scopes"]);
        fields.retain(|name, _| !name.starts_with("x-"));
        out.insert("flows".to_owned(), json!({flow: fields}));
    }
    out.into()
}

/// A schema; a reference that has something beside it is wrapped, for in version 3 it must stand alone.
fn schema(second: &Value) -> Value {
    let Value::Object(fields) = second else {
        return second.clone();
    };
    let convert = |(name, value): (&String, &Value)| {
        let new = match (name.as_str(), value) {
            ("$ref", Value::String(to)) => moved(to).into(),
            ("properties", Value::Object(all)) => all
                .iter()
                .map(|(name, s)| (name.clone(), schema(s)))
                .collect(),
            ("items" | "allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter().map(schema).collect()
            }
            ("items" | "additionalProperties" | "additionalItems" | "not", of) => schema(of),
            _ => value.clone(),
        };
        (name.clone(), new)
    };
    let mut out: Map<String, Value> = fields.iter().map(convert).collect();
    if out.len() > 1
        && let Some(reference) = out.remove("$ref")
    {
        out.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_in_the_other_version() {
        let second = json!({
            "swagger": "2.0", "info": {"title": "Wardle", "version": "0.1"},
            "paths": {"/apis/w/v1/flunders": {
                "parameters": [{"$ref": "#/parameters/pretty-1"}],
                "post": {
                    "operationId": "create", "consumes": ["*/*"], "produces": ["application/json"],
                    "schemes": ["https"], "x-kubernetes-action": "post",
                    "parameters": [
                        {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Flunder"}},
                        {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true},
                    ],
                    "responses": {"201": {"description": "Created", "schema": {"$ref": "#/definitions/Flunder"}}},
                },
            }},
            "parameters": {"pretty-1": {"name": "pretty", "in": "query", "type": "string"}},
            "definitions": {"Flunder": {"type": "object", "properties": {
                "metadata": {"description": "words", "$ref": "#/definitions/Meta"},
                "others": {"type": "array", "items": {"$ref": "#/definitions/Flunder"}},
            }}, "Meta": {"type": "object"}},
            "securityDefinitions": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}},
        });
        let flunder = json!({"schema": {"$ref": "#/components/schemas/Flunder"}});
        let wanted = json!({
            "openapi": "3.0.0", "info": {"title": "Wardle", "version": "0.1"},
            "paths": {"/apis/w/v1/flunders": {
                "parameters": [{"$ref": "#/components/parameters/pretty-1"}],
                "post": {
                    "operationId": "create", "x-kubernetes-action": "post",
                    "requestBody": {"content": {"*/*": flunder}},
                    "parameters": [{"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
                    "responses": {"201": {"description": "Created", "content": {"application/json": flunder}}},
                },
            }},
            "components": {
                "parameters": {"pretty-1": {"name": "pretty", "in": "query", "schema": {"type": "string"}}},
                "schemas": {"Flunder": {"type": "object", "properties": {
                    "metadata": {"description": "words", "allOf": [{"$ref": "#/components/schemas/Meta"}]},
                    "others": {"type": "array", "items": {"$ref": "#/components/schemas/Flunder"}},
                }}, "Meta": {"type": "object"}},
                "securitySchemes": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}},
            },
        });
        assert_eq!(translate(&second), wanted);
    }
}
