//! Errors of the API, one-to-one with `Status.reason`.
//!
//! Behaviour and wording: `k8s.io/apimachinery/pkg/api/errors`.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::field::ErrorList;

/// An answer that is not a success: what a `Status` object says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// `Status.reason`, for example `NotFound`; empty when unknown.
    pub reason: &'static str,
    /// The text that people see.
    pub message: String,
    /// `Status.details`.
    pub details: Option<Box<Details>>,
}

/// `Status.details`, its fields in upstream's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (or kind, for invalid objects).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// (reason, message, field) of each cause.
    #[serde(serialize_with = "causes", skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<(String, String, String)>,
    /// Wait this long before another try; 0 when not given.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// `resource.group`, or `resource` alone in the core group.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

fn about(group: &str, kind: &str, name: &str) -> Option<Box<Details>> {
    let (group, kind, name) = (group.to_owned(), kind.to_owned(), name.to_owned());
    Some(Box::new(Details {
        group,
        kind,
        name,
        ..Details::default()
    }))
}

impl ApiError {
    /// An error with these parts and no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Self {
            details: about(group, resource, name),
            ..Self::new(404, "NotFound", message)
        }
    }

    /// 404: no such path.
    pub fn path_not_found() -> Self {
        Self::of_route(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self {
            details: about(group, resource, name),
            ..Self::new(409, "AlreadyExists", message)
        }
    }

    /// 409: a precondition (resourceVersion, UID, ownership) does not hold.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let what = qualified(group, resource);
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self {
            details: about(group, resource, name),
            ..Self::new(409, "Conflict", message)
        }
    }

    /// 403: known, and not allowed.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let what = qualified(group, resource);
        let message = match (what.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{what} is forbidden: {why}"),
            _ => format!("{what} \"{name}\" is forbidden: {why}"),
        };
        Self {
            details: about(group, resource, name),
            ..Self::new(403, "Forbidden", message)
        }
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// 422: the object does not pass validation.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &ErrorList) -> Self {
        let mut details = about(group, kind, name);
        if let Some(details) = details.as_mut() {
            details.causes = errors
                .0
                .iter()
                .map(|e| (e.kind.reason().to_owned(), e.body(), e.path.to_string()))
                .collect();
        }
        let what = qualified(group, kind);
        let message = format!("{what} \"{name}\" is invalid: {}", errors.aggregate());
        Self {
            details,
            ..Self::new(422, "Invalid", message)
        }
    }

    /// 405.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        let what = qualified(group, resource);
        let message = format!("{action} is not supported on resources of kind \"{what}\"");
        Self {
            details: about(group, resource, ""),
            ..Self::new(405, "MethodNotAllowed", message)
        }
    }

    /// 410: this resourceVersion is no longer kept.
    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(410, "Expired", why)
    }

    /// 406, with the media types that would do.
    pub fn not_acceptable(supported: &[&str]) -> Self {
        let list = supported.join(", ");
        let why = format!("only the following media types are accepted: {list}");
        Self::new(406, "NotAcceptable", why)
    }

    /// An error that says only that a route does not do it, before anybody has looked at what is asked for.
    pub fn of_route(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::new(code, reason, message)
        }
    }

    /// 415, with the media types that would do.
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let why = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", why)
    }

    /// 413.
    pub fn too_large(why: impl std::fmt::Display) -> Self {
        let message = format!("Request entity is too large: {why}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 429, to be tried again after a while.
    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Some(Box::new(Details {
            retry_after_seconds,
            ..Details::default()
        }));
        Self {
            details,
            ..Self::new(429, "TooManyRequests", why)
        }
    }

    /// With one more cause, which is about no field.
    #[must_use]
    pub fn caused_by(mut self, reason: &str, message: impl Into<String>) -> Self {
        let details = self.details.get_or_insert_default();
        let cause = (reason.to_owned(), message.into(), String::new());
        details.causes.push(cause);
        self
    }

    /// 500: a fault of the server.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {why}"),
        )
    }

    /// 503.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", why)
    }

    /// 504: the server ran out of time.
    pub fn timeout(why: impl Into<String>) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", why.into()))
    }

    /// The `Status` object on the wire.
    pub fn to_status(&self) -> Value {
        // Texts and numbers have no way to fail to become a tree.
        serde_json::to_value(Status::of(self)).unwrap_or_default()
    }

    /// The same as JSON, in upstream's order and with the end of its line: clients compare the text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(&Status::of(self)).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// A `Status` of a failure, its fields in upstream's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Map<String, Value>,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

impl<'a> Status<'a> {
    fn of(error: &'a ApiError) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Map::new(),
            status: "Failure",
            message: &error.message,
            reason: error.reason,
            details: error.details.as_deref(),
            code: error.code,
        }
    }
}

/// One of `Details::causes`.
#[derive(Serialize)]
struct Cause<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
}

fn causes<S: Serializer>(
    causes: &[(String, String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(causes.iter().map(|(reason, message, field)| Cause {
        reason,
        message,
        field,
    }))
}

/// Whether a number is not told.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::ApiError;

    #[test]
    fn a_status_is_told_in_the_order_of_upstream() {
        let error = ApiError::conflict("apps", "deployments", "d", "it changed")
            .caused_by("FieldManagerConflict", "conflict with \"a\"");
        assert_eq!(
            String::from_utf8(error.to_json()).expect("text"),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"#,
                r#""Operation cannot be fulfilled on deployments.apps \"d\": it changed","reason":"Conflict","#,
                r#""details":{"name":"d","group":"apps","kind":"deployments","causes":[{"reason":"#,
                r#""FieldManagerConflict","message":"conflict with \"a\""}]},"code":409}"#,
                "\n"
            )
        );
        let tree: serde_json::Value = serde_json::from_slice(&error.to_json()).expect("JSON");
        assert_eq!(tree, error.to_status());
    }
}
