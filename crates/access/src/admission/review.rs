//! `AdmissionReview`: the question to a webhook, and what its answer means.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/webhook/{request,errors}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::status::Details;
use machinery::{ApiError, Object};
use serde_json::{Map, Value, json};

use super::{Operation, rules};
use crate::User;

const GROUP: &str = "admission.k8s.io";

/// All that a webhook is told.
pub struct Question<'a> {
    /// Unlike that of any other question.
    pub uid: &'a str,
    /// The resource as the webhook's rule calls it.
    pub resource: rules::Name<'a>,
    /// Group, version and name of the kind under that name.
    pub kind: (&'a str, &'a str, &'a str),
    /// The resource as the client called it.
    pub request_resource: rules::Name<'a>,
    /// The kind there.
    pub request_kind: (&'a str, &'a str, &'a str),
    /// Sub-resource, or empty.
    pub subresource: &'a str,
    /// Name of the object, empty while it has none.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// What the write does.
    pub operation: Operation,
    /// Who writes.
    pub user: &'a User,
    /// The object as it is going to be.
    pub object: Option<&'a Object>,
    /// The object as it is.
    pub old: Option<&'a Object>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Options of the write, or null.
    pub options: &'a Value,
}

/// The first version of reviews that a webhook and this server both know.
pub fn version(known: &[String]) -> Option<&'static str> {
    let ours = ["v1", "v1beta1"];
    known
        .iter()
        .find_map(|version| ours.into_iter().find(|own| own == version))
}

impl Question<'_> {
    /// The review in a version, as JSON.
    pub fn encode(&self, version: &str) -> Vec<u8> {
        let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
        let resource = |name: rules::Name<'_>| json!({"group": name.group, "version": name.version, "resource": name.resource});
        let mut user = Map::new();
        let mut tell = |key: &str, value: Value, empty: bool| {
            if !empty {
                user.insert(key.to_owned(), value);
            }
        };
        tell("username", json!(self.user.name), self.user.name.is_empty());
        tell("uid", json!(self.user.uid), self.user.uid.is_empty());
        tell(
            "groups",
            json!(self.user.groups),
            self.user.groups.is_empty(),
        );
        tell("extra", json!(self.user.extra), self.user.extra.is_empty());
        let mut request = json!({
            "uid": self.uid,
            "kind": kind(self.kind), "resource": resource(self.resource),
            "requestKind": kind(self.request_kind), "requestResource": resource(self.request_resource),
            "operation": self.operation.as_str(), "userInfo": user,
            "object": self.object.map(|o| &o.0), "oldObject": self.old.map(|o| &o.0),
            "dryRun": self.dry_run, "options": self.options,
        });
        for (key, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !text.is_empty() {
                request[key] = text.into();
            }
        }
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": request,
        });
        review.to_string().into_bytes()
    }
}

/// A valid answer.
#[derive(Debug)]
pub struct Answer {
    /// It may be written.
    pub allowed: bool,
    /// A JSON patch, not decoded.
    pub patch: Option<Vec<u8>>,
    /// For the audit log, by key.
    pub audit_annotations: Vec<(String, String)>,
    /// For the client.
    pub warnings: Vec<String>,
    result: Value,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is no review in the version of the question.
    Undecodable(String),
    /// The review says something that it must not.
    Invalid(String),
}

impl Answer {
    /// Reads an answer to a question in a version of reviews.
    ///
    /// # Errors
    /// It is not usable.
    pub fn read(body: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Self, Unusable> {
        let review = parse(body, version)?;
        let response = &review["response"];
        if response.is_null() {
            return Err(Unusable::Invalid("webhook response was absent".to_owned()));
        }
        let text = |key: &str| response[key].as_str().unwrap_or("");
        let patch_type = response["patchType"].as_str();
        if version == "v1" {
            if text("uid") != uid {
                let why = format!("expected response.uid={uid:?}, got {:?}", text("uid"));
                return Err(Unusable::Invalid(why));
            }
            check_kind(&review)?;
        }
        let patch = bytes(&response["patch"]).map_err(Unusable::Undecodable)?;
        if version == "v1" {
            check_patch(&patch, patch_type, mutating).map_err(Unusable::Invalid)?;
        }
        let list = response["warnings"].as_array().into_iter().flatten();
        let annotations = response["auditAnnotations"]
            .as_object()
            .into_iter()
            .flatten();
        Ok(Self {
            allowed: response["allowed"].as_bool().unwrap_or(false),
            patch: Some(patch).filter(|p| mutating && !p.is_empty()),
            audit_annotations: annotations
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            warnings: list.filter_map(Value::as_str).map(str::to_owned).collect(),
            result: response["status"].clone(),
        })
    }

    /// What the client is told when it is not allowed.
    pub fn refusal(&self, webhook: &str) -> ApiError {
        let text = |key: &str| self.result[key].as_str().unwrap_or("");
        let code = self.result["code"]
            .as_u64()
            .and_then(|c| u16::try_from(c).ok());
        let denied = format!("admission webhook {webhook:?} denied the request");
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
        let mut error = ApiError::new(code, reason(text("reason")), message);
        error.details = details(&self.result["details"]);
        error
    }
}

fn parse(body: &[u8], version: &str) -> Result<Value, Unusable> {
    let undecodable = |why: String| Err(Unusable::Undecodable(why));
    let review: Value = match serde_json::from_slice(body) {
        Ok(review @ Value::Object(_)) => review,
        Ok(_) => {
            return undecodable(
                "couldn't get version/kind; json parse error: not an object".to_owned(),
            );
        }
        Err(error) => {
            return undecodable(format!(
                "couldn't get version/kind; json parse error: {error}"
            ));
        }
    };
    let (given, kind) = (&review["apiVersion"], &review["kind"]);
    let (given, kind) = (given.as_str().unwrap_or(""), kind.as_str().unwrap_or(""));
    let other = given
        .strip_prefix(GROUP)
        .and_then(|rest| rest.strip_prefix('/'));
    if let Some(other) = other.filter(|other| *other != version && kind == "AdmissionReview") {
        return undecodable(format!(
            "converting ({other}.AdmissionReview) to ({version}.AdmissionReview): unknown conversion"
        ));
    }
    Ok(review)
}

fn check_kind(review: &Value) -> Result<(), Unusable> {
    let given = review["apiVersion"].as_str().unwrap_or("");
    let kind = review["kind"].as_str().unwrap_or("");
    let wanted = format!("{GROUP}/v1");
    if (given, kind) == (&wanted, "AdmissionReview") {
        return Ok(());
    }
    let given = if given.is_empty() { "/" } else { given };
    Err(Unusable::Invalid(format!(
        "expected webhook response of {wanted}, Kind=AdmissionReview, got {given}, Kind={kind}"
    )))
}

/// Bytes as Go reads them: base64, or a list of numbers, which is how others write them who know no better.
fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let is = |what: &str| {
        format!(
            "json: cannot unmarshal {what} into Go struct field AdmissionResponse.response.patch of type []uint8"
        )
    };
    let byte = |value: &Value| {
        let byte = value.as_u64().and_then(|number| u8::try_from(number).ok());
        byte.ok_or_else(|| is("number"))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            let decoded = STANDARD.decode(text);
            decoded.map_err(|error| format!("illegal base64 data: {error}"))
        }
        Value::Array(list) => list.iter().map(byte).collect(),
        Value::Bool(_) => Err(is("bool")),
        Value::Number(_) => Err(is("number")),
        Value::Object(_) => Err(is("object")),
    }
}

fn check_patch(patch: &[u8], kind: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (patch.is_empty(), kind, mutating) {
        (false, _, false) => "validating webhook may not return response.patch",
        (_, Some(_), false) => "validating webhook may not return response.patchType",
        (false, None, true) => "webhook returned response.patch but not response.patchType",
        (true, Some(_), true) => "webhook returned response.patchType but not response.patch",
        (false, Some(""), true) => {
            return Err("webhook returned invalid response.patchType of \"\"".to_owned());
        }
        (false, Some(kind), true) if kind != "JSONPatch" => {
            return Err(format!("unsupported patch type {kind:?}"));
        }
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The reasons that the API knows; others are not told.
fn reason(text: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "AlreadyExists",
        "BadRequest",
        "Conflict",
        "Expired",
        "Forbidden",
        "Gone",
        "InternalError",
        "Invalid",
        "MethodNotAllowed",
        "NotAcceptable",
        "NotFound",
        "RequestEntityTooLarge",
        "ServerTimeout",
        "ServiceUnavailable",
        "StoreReadError",
        "Timeout",
        "TooManyRequests",
        "Unauthorized",
        "UnsupportedMediaType",
    ];
    KNOWN
        .iter()
        .find(|known| **known == text)
        .copied()
        .unwrap_or("")
}

fn details(given: &Value) -> Option<Box<Details>> {
    let given = given.as_object()?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let own = |key: &str| {
        given
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let causes = given.get("causes").and_then(Value::as_array);
    let causes = causes.into_iter().flatten();
    let wait = given.get("retryAfterSeconds").and_then(Value::as_u64);
    Some(Box::new(Details {
        name: own("name"),
        group: own("group"),
        kind: own("kind"),
        uid: own("uid"),
        causes: causes
            .map(|c| (text(c, "reason"), text(c, "message"), text(c, "field")))
            .collect(),
        retry_after_seconds: wait.and_then(|s| u32::try_from(s).ok()).unwrap_or(0),
    }))
}
