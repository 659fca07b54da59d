//! Errors of the API, one-to-one with `Status.reason`.
//!
//! Behaviour and wording: `k8s.io/apimachinery/pkg/api/errors`.

use serde_json::{Map, Value, json};

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

/// `Status.details`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Name of the object, or empty.
    pub name: String,
    /// API group, or empty.
    pub group: String,
    /// Resource (or kind, for invalid objects).
    pub kind: String,
    /// UID, or empty.
    pub uid: String,
    /// (reason, message, field) of each cause.
    pub causes: Vec<(String, String, String)>,
    /// Wait this long before another try; 0 when not given.
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
        Self::new(
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
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = self.details.as_deref().map(Details::to_value) {
            status["details"] = details;
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            out.insert(key.into(), text.as_str().into());
        }
        if !self.causes.is_empty() {
            let cause = |(reason, message, field): &(String, String, String)| {
                let texts = [("reason", reason), ("message", message), ("field", field)];
                let given = texts.into_iter().filter(|(_, text)| !text.is_empty());
                let map = given.map(|(key, text)| (key.to_owned(), text.as_str().into()));
                Value::Object(map.collect())
            };
            out.insert("causes".into(), self.causes.iter().map(cause).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}
