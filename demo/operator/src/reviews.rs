//! What the operator's webhooks answer: conversion between versions, and admission.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use crate::{shout, tls};

/// The label that every shout gets.
pub(crate) const LABEL: &str = "demo.oxikube.io/heard";

/// Answers a review; anything else is a question whether the operator is up.
pub(crate) async fn answer(path: String, body: Bytes) -> Response<Full<Bytes>> {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    tls::json(&match path.as_str() {
        "/convert" => converted(&asked),
        "/mutate" => review(&asked, mutated(&asked["request"]["object"])),
        "/validate" => review(&asked, validated(&asked["request"]["object"])),
        _ => json!("ready"),
    })
}

/// The answer to an admission review.
pub(crate) fn review(asked: &Value, mut response: Value) -> Value {
    if response.get("uid").is_none() {
        response["uid"] = asked["request"]["uid"].clone();
    }
    json!({"apiVersion": asked["apiVersion"], "kind": "AdmissionReview", "response": response})
}

/// Agreement, with changes.
pub(crate) fn patch(operations: &Value) -> Value {
    let patch = STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

fn converted(asked: &Value) -> Value {
    let request = &asked["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or("");
    let objects = request["objects"].as_array().cloned().unwrap_or_default();
    println!("converting {} objects to {wanted}", objects.len());
    let objects = objects.into_iter().map(|o| shout::convert(o, wanted));
    let (objects, result) = match objects.collect::<Result<Vec<Value>, String>>() {
        Ok(objects) => (objects, json!({"status": "Success"})),
        Err(why) => (Vec::new(), json!({"status": "Failed", "message": why})),
    };
    json!({
        "apiVersion": asked["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": result, "convertedObjects": objects},
    })
}

fn mutated(object: &Value) -> Value {
    let label = LABEL.replace('/', "~1");
    match object["metadata"]["labels"].is_object() {
        true => patch(&json!([
            {"op": "add", "path": format!("/metadata/labels/{label}"), "value": "yes"}
        ])),
        false => patch(&json!([
            {"op": "add", "path": "/metadata/labels", "value": {LABEL: "yes"}}
        ])),
    }
}

fn validated(object: &Value) -> Value {
    let words = object["spec"]["words"].as_array();
    let mut words = words.into_iter().flatten().filter_map(Value::as_str);
    match words.any(|word| word == "darn") {
        true => {
            let status =
                json!({"code": 403, "reason": "Forbidden", "message": "nobody swears here"});
            json!({"allowed": false, "status": status})
        }
        false => json!({"allowed": true}),
    }
}
