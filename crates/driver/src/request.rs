//! Plain requests to the API: method, path, body in; JSON or a structured failure out.

use control::{Failure, Resource, Verb};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// Why a request did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The API refused.
    #[error("{message}")]
    Refused {
        /// HTTP status code.
        code: u16,
        /// `reason` of the Status.
        reason: String,
        /// `message` of the Status.
        message: String,
        /// Reasons of the causes in the Status.
        causes: Vec<String>,
    },
    /// There was no answer, or not one that can be read.
    #[error("no usable answer from the API: {0}")]
    Transport(#[source] Box<kube::Error>),
}

impl RequestError {
    /// The HTTP status code, 0 when there was no answer.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Transport(_) => 0,
        }
    }

    /// Whether the object is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether somebody else was faster.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// Whether nothing can be created because the namespace is going away.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Refused { causes, .. }
            if causes.iter().any(|cause| cause == "NamespaceTerminating"))
    }

    /// As a later observation sees it.
    pub(crate) fn to_failure(&self, verb: Verb, resource: &Resource) -> Failure {
        let reason = match self {
            Self::Refused { reason, .. } => reason.clone(),
            Self::Transport(_) => String::new(),
        };
        Failure {
            verb,
            resource: resource.clone(),
            code: self.code(),
            reason,
            message: self.to_string(),
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                reason: status.reason,
                message: status.message,
                causes: status
                    .details
                    .map(|d| d.causes.into_iter().map(|c| c.reason).collect())
                    .unwrap_or_default(),
            },
            other => Self::Transport(Box::new(other)),
        }
    }
}

/// Sends a request with an optional JSON body; an empty answer is `null`.
///
/// # Errors
/// The API refused or did not answer.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<(&str, &Value)>,
    accept: &str,
) -> Result<Value, RequestError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::ACCEPT, accept);
    let bytes = match body {
        Some((media_type, value)) => {
            request = request.header(http::header::CONTENT_TYPE, media_type);
            value.to_string().into_bytes()
        }
        None => Vec::new(),
    };
    let request = request.body(bytes).map_err(kube::Error::HttpError)?;
    let text = client.request_text(request).await?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_str(&text).map_err(kube::Error::SerdeError)?)
}

/// Reads JSON.
///
/// # Errors
/// The API refused or did not answer.
pub(crate) async fn get(client: &Client, path: &str) -> Result<Value, RequestError> {
    send(client, Method::GET, path, None, "application/json").await
}
