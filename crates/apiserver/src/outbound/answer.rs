//! A whole answer, and how upstream's clients turn one into an error.
//!
//! Behaviour: `k8s.io/client-go/rest/request.go` (`transformResponse`), `apimachinery/pkg/api/errors`
//! (`NewGenericServerResponse`).

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use machinery::ApiError;
use serde_json::Value;

/// No more than this of an error's text is passed on.
const ERROR_TEXT_BYTES: usize = 2048;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body of a success; for anything else the error that a client of an API server would report, with the
    /// far end's own words where it has any.
    ///
    /// # Errors
    /// The status is none of 2xx.
    pub(crate) fn success(self) -> Result<Bytes, ApiError> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let code = self.status.as_u16();
        if let Ok(Value::Object(status)) = serde_json::from_slice::<Value>(&self.body)
            && status.get("kind").is_some_and(|kind| kind == "Status")
            && let Some(message) = status.get("message").and_then(Value::as_str)
        {
            return Err(ApiError::new(code, "", message));
        }
        Err(ApiError::new(code, "", self.generic_text()))
    }

    fn generic_text(&self) -> String {
        let kind = self.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or("");
        let is_text = kind.starts_with("text/") || kind.is_empty();
        let start = &self.body[..self.body.len().min(ERROR_TEXT_BYTES)];
        let text = String::from_utf8_lossy(start);
        let text = if is_text { text.trim() } else { "unknown" };
        let known = match self.status.as_u16() {
            400 => "the server rejected our request for an unknown reason",
            401 => "the server has asked for the client to provide credentials",
            406 if matches!(text, "" | "unknown") => {
                "the server was unable to respond with a content type that the client supports"
            }
            403 | 406 | 415 => text,
            404 => "the server could not find the requested resource",
            405 => "the server does not allow this method on the requested resource",
            409 => "the server reported a conflict",
            422 => "the server rejected our request due to an error in our request",
            429 => "the server has received too many requests and has asked us to try again later",
            503 => "the server is currently unable to handle the request",
            504 => {
                "the server was unable to return a response in the time allotted, but may still be processing the request"
            }
            code if code >= 500 => {
                return format!(
                    "an error on the server ({text:?}) has prevented the request from succeeding"
                );
            }
            code => {
                return format!(
                    "the server responded with the status code {code} but did not return more information"
                );
            }
        };
        known.to_owned()
    }
}
