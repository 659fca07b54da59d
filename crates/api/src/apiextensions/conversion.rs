//! `ConversionReview`: the question to a webhook that brings objects of a custom kind from one version to another, and what
//! its answer means.
//!
//! Contract: an answer has one object for each that was asked about, in their order, in the version that was asked for. A
//! webhook may change labels and annotations; the rest of the metadata stays what it was, whatever the answer says.
//! Behaviour and wording: `k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go`.

use std::collections::BTreeMap;

use machinery::value::go_type;
use machinery::{ErrorList, Object, Path};
use serde_json::{Map, Value, json};

use crate::{check, meta};

const GROUP: &str = "apiextensions.k8s.io";
const KIND: &str = "ConversionReview";

/// The first version of reviews that a webhook and this server both know.
pub fn review_version(known: &[String]) -> Option<&'static str> {
    let ours = ["v1", "v1beta1"];
    known
        .iter()
        .find_map(|version| ours.into_iter().find(|own| own == version))
}

/// What is asked of a webhook.
pub struct Question<'a> {
    /// The version of reviews.
    pub version: &'a str,
    /// Unlike that of any other question.
    pub uid: &'a str,
    /// Group and version that the objects are wanted in.
    pub wanted: &'a str,
    /// The objects as they are.
    pub objects: &'a [Object],
}

/// Why there are no converted objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conversion webhook for {from} {why}")]
pub struct Failure {
    /// The version and kind of the first object.
    pub from: String,
    /// What went wrong.
    pub why: String,
    /// What it is counted as.
    pub counted: &'static str,
}

/// The webhook could not be asked.
pub const CALL_FAILURE: &str = "conversion_webhook_call_failure";
const MALFORMED: &str = "conversion_webhook_malformed_response_failure";
const PARTIAL: &str = "conversion_webhook_partial_response_failure";
const INVALID_OBJECT: &str = "conversion_webhook_invalid_converted_object_failure";

impl Question<'_> {
    /// The review as JSON.
    pub fn encode(&self) -> Vec<u8> {
        let objects: Vec<&Map<String, Value>> = self.objects.iter().map(|o| &o.0).collect();
        let review = json!({
            "kind": KIND, "apiVersion": format!("{GROUP}/{}", self.version),
            "request": {"uid": self.uid, "desiredAPIVersion": self.wanted, "objects": objects},
        });
        review.to_string().into_bytes()
    }

    /// A failure of this question.
    pub fn failure(&self, why: impl Into<String>, counted: &'static str) -> Failure {
        Failure {
            from: self.objects.first().map(type_of).unwrap_or_default(),
            why: why.into(),
            counted,
        }
    }

    /// The converted objects, in the order of those that were asked about.
    ///
    /// # Errors
    /// The answer is none, or the webhook has none.
    pub fn read(&self, body: &[u8]) -> Result<Vec<Object>, Failure> {
        let failed = |(why, counted): (String, _)| self.failure(format!("failed: {why}"), counted);
        let converted = self.response(body).map_err(failed)?;
        let (got, expected) = (converted.len(), self.objects.len());
        if got != expected {
            let why = format!("returned {got} objects, expected {expected}");
            return Err(self.failure(why, PARTIAL));
        }
        let pairs = self.objects.iter().zip(converted).enumerate();
        let checked = pairs.map(|(index, (original, value))| self.object(index, original, value));
        checked.collect()
    }

    /// The objects of a response that is one, and says that all went well.
    fn response(&self, body: &[u8]) -> Result<Vec<Value>, (String, &'static str)> {
        let mut review = self.parse(body).map_err(|why| (why, CALL_FAILURE))?;
        let malformed = |why: String| Err((why, MALFORMED));
        let response = &mut review["response"];
        if response.is_null() {
            return malformed("no response provided".to_owned());
        }
        let uid = response["uid"].as_str().unwrap_or("");
        // Reviews of the first version were never held to that.
        if self.version == "v1" && uid != self.uid {
            return malformed(format!("expected response.uid={:?}, got {uid:?}", self.uid));
        }
        let result = &response["result"];
        let status = result["status"].as_str().unwrap_or("");
        if status != "Success" {
            return malformed(match result["message"].as_str() {
                Some(message) if !message.is_empty() => message.to_owned(),
                _ => format!("response.result.status was '{status}', not 'Success'"),
            });
        }
        match response["convertedObjects"].take() {
            Value::Array(objects) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }

    fn parse(&self, body: &[u8]) -> Result<Value, String> {
        let review: Value = serde_json::from_slice(body)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
        let (given, kind) = (&review["apiVersion"], &review["kind"]);
        let (given, kind) = (given.as_str().unwrap_or(""), kind.as_str().unwrap_or(""));
        let wanted = format!("{GROUP}/{}", self.version);
        if kind.is_empty() {
            let body = String::from_utf8_lossy(body);
            return Err(format!("Object 'Kind' is missing in '{body}'"));
        }
        let other = given
            .strip_prefix(GROUP)
            .and_then(|rest| rest.strip_prefix('/'));
        if let Some(other) = other.filter(|other| *other != self.version && kind == KIND) {
            return Err(format!(
                "converting ({other}.{KIND}) to ({}.{KIND}): unknown conversion",
                self.version
            ));
        }
        if self.version == "v1" && (given, kind) != (wanted.as_str(), KIND) {
            return Err(format!(
                "expected webhook response of {wanted}, Kind={KIND}, got {given}, Kind={kind}"
            ));
        }
        Ok(review)
    }

    fn object(&self, index: usize, original: &Object, value: Value) -> Result<Object, Failure> {
        // A list is told of in other words than an object alone.
        let alone = self.objects.len() == 1;
        let invalid = |why: String| self.failure(why, INVALID_OBJECT);
        let at = |why: String| {
            let what = if alone { "" } else { "converted " };
            invalid(format!(
                "returned invalid {what}object at index {index}: {why}"
            ))
        };
        let mut converted = Object::from_value(value)
            .map_err(|value| at(format!("invalid object: {}", go_type(&value))))?;
        if converted.kind().is_empty() {
            let body = Value::Object(converted.0).to_string();
            return Err(at(format!("Object 'Kind' is missing in '{body}'")));
        }
        let got = converted.api_version();
        if got != self.wanted {
            return Err(at(format!(
                "invalid groupVersion (expected {}, received {got})",
                self.wanted
            )));
        }
        let (expected, got) = (original.kind(), converted.kind());
        if expected != got {
            return Err(at(format!(
                "invalid kind (expected {expected}, received {got})"
            )));
        }
        if let Err(why) = is_the_same(original, &converted) {
            return Err(match alone {
                true => invalid(format!("returned invalid object: {why}")),
                false => at(why),
            });
        }
        restore_metadata(original, &mut converted).map_err(|why| {
            invalid(match alone {
                true => format!("returned invalid metadata: {why}"),
                false => format!("returned invalid metadata in object at index {index}: {why}"),
            })
        })?;
        Ok(converted)
    }
}

/// `group/version, Kind=Name`.
fn type_of(object: &Object) -> String {
    format!("{}, Kind={}", object.api_version(), object.kind())
}

fn is_the_same(original: &Object, converted: &Object) -> Result<(), String> {
    for (what, own, given) in [
        ("name", original.name(), converted.name()),
        ("namespace", original.namespace(), converted.namespace()),
        ("UID", original.uid(), converted.uid()),
    ] {
        if own != given {
            return Err(format!("must have the same {what}: {own} != {given}"));
        }
    }
    Ok(())
}

/// Puts the metadata back, with the labels and annotations that the webhook gave.
fn restore_metadata(original: &Object, converted: &mut Object) -> Result<(), String> {
    let given = match converted.0.remove("metadata") {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(given)) => given,
        Some(other) => {
            let kind = go_type(&other);
            return Err(format!(
                "invalid metadata of type {kind} in converted object"
            ));
        }
    };
    let mut metadata = original.metadata().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match given.get(field) {
            None | Some(Value::Null) => drop(metadata.remove(field)),
            Some(Value::Object(words)) => {
                check_words(field, words, metadata.get(field))?;
                metadata.insert(field.to_owned(), words.clone().into());
            }
            Some(other) => {
                let kind = go_type(other);
                return Err(format!(
                    "invalid metadata.{field} of type {kind} in converted object"
                ));
            }
        }
    }
    converted.0.insert("metadata".to_owned(), metadata.into());
    Ok(())
}

/// Labels and annotations that a webhook changed must be right; what was there may stay.
fn check_words(
    field: &str,
    words: &Map<String, Value>,
    before: Option<&Value>,
) -> Result<(), String> {
    let mut texts = BTreeMap::new();
    for (key, value) in words {
        let Some(text) = value.as_str() else {
            let kind = go_type(value);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {kind} in converted object"
            ));
        };
        texts.insert(key.clone(), text.to_owned());
    }
    let before = before.and_then(Value::as_object);
    if before.map_or(words.is_empty(), |before| before == words) {
        return Ok(());
    }
    let mut errors = ErrorList::new();
    let metadata = Path::new("metadata");
    match field {
        "labels" => check::labels(&mut errors, &metadata.child("labels"), Some(&texts)),
        // As upstream, which leaves the plural out.
        _ => meta::annotations(&mut errors, &metadata.child("annotation"), Some(&texts)),
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(errors.aggregate())
}

#[cfg(test)]
mod tests;
