//! Which form of an answer a client wants, and how a body of its own is encoded.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/handlers/negotiation`. JSON and YAML are spoken, protobuf is
//! understood; a client that would rather have protobuf gets the next thing on its list.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use machinery::ApiError;

use crate::request::Query;

/// The encodings of answers.
pub(crate) const SUPPORTED: &[&str] = &["application/json", "application/yaml"];
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The encodings of bodies.
const READABLE: &[&str] = &["application/json", "application/yaml", PROTOBUF];

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    /// In requests only.
    Protobuf,
}

impl Media {
    /// The `Content-Type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// Parameters of a media type that ask for another shape: `as`, `g` and `v`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct As {
    pub(crate) kind: String,
    pub(crate) group: String,
    pub(crate) version: String,
}

/// One acceptable media type.
#[derive(Clone, Debug, PartialEq)]
struct Accepted {
    media: Option<Media>,
    quality: f32,
    convert: As,
}

/// The shape of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// A table of the group version `meta.k8s.io/<version>`.
    Table(String),
    /// Metadata alone.
    Partial(String),
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) media: Media,
    pub(crate) shape: Shape,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Form {
    /// Plain JSON.
    pub(crate) fn json() -> Self {
        Self {
            media: Media::Json,
            shape: Shape::Object,
            pretty: false,
            gzip: false,
        }
    }

    /// What the client wants of an endpoint that can turn objects into tables and partial metadata.
    ///
    /// # Errors
    /// 406.
    pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        let rest = Self {
            pretty: wants_pretty(headers, query),
            gzip: wants_gzip(headers),
            ..Self::json()
        };
        for accepted in accepted(headers) {
            let Some(media) = accepted.media else {
                continue;
            };
            let version = accepted.convert.version;
            let known = accepted.convert.group == "meta.k8s.io"
                && matches!(version.as_str(), "v1" | "v1beta1");
            let shape = match (accepted.convert.kind.as_str(), known) {
                ("", _) => Shape::Object,
                ("Table", true) => Shape::Table(version),
                ("PartialObjectMetadata" | "PartialObjectMetadataList", true) => {
                    Shape::Partial(version)
                }
                _ => continue,
            };
            return Ok(Self {
                media,
                shape,
                ..rest
            });
        }
        Err(ApiError::not_acceptable(SUPPORTED))
    }

    /// What the client wants of an endpoint with one shape; never fails, for errors must be told somehow.
    pub(crate) fn lenient(headers: &HeaderMap, query: &Query) -> Self {
        let media = accepted(headers)
            .into_iter()
            .find_map(|a| a.media)
            .unwrap_or(Media::Json);
        let (pretty, gzip) = (wants_pretty(headers, query), wants_gzip(headers));
        Self {
            media,
            shape: Shape::Object,
            pretty,
            gzip,
        }
    }
}

/// The media type parameters with `as`, in the client's order of preference.
pub(crate) fn conversions(headers: &HeaderMap) -> Vec<As> {
    accepted(headers)
        .into_iter()
        .filter(|a| a.media.is_some())
        .map(|a| a.convert)
        .collect()
}

fn accepted(headers: &HeaderMap) -> Vec<Accepted> {
    let texts: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let text = texts.join(",");
    if text.trim().is_empty() {
        return vec![Accepted {
            media: Some(Media::Json),
            quality: 1.0,
            convert: As::default(),
        }];
    }
    let mut all: Vec<Accepted> = text.split(',').map(parse_accepted).collect();
    all.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    all
}

fn parse_accepted(text: &str) -> Accepted {
    let mut parts = text.split(';').map(str::trim);
    let media = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
        "application/json" | "*/*" | "application/*" => Some(Media::Json),
        "application/yaml" => Some(Media::Yaml),
        _ => None,
    };
    let mut accepted = Accepted {
        media,
        quality: 1.0,
        convert: As::default(),
    };
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key.trim() {
            "q" => accepted.quality = value.trim().parse().unwrap_or(1.0),
            "as" => value.clone_into(&mut accepted.convert.kind),
            "g" => value.clone_into(&mut accepted.convert.group),
            "v" => value.clone_into(&mut accepted.convert.version),
            _ => {}
        }
    }
    accepted
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.get("pretty").is_some() {
        return query.flag("pretty");
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|known| agent.starts_with(known))
}

fn wants_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    encodings
        .split(',')
        .any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip"))
}

/// The media type of a request's body, without parameters; empty when not given.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    value
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}

/// How a body of an object is encoded.
///
/// # Errors
/// 415.
pub(crate) fn body_media(headers: &HeaderMap) -> Result<Media, ApiError> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        PROTOBUF => Ok(Media::Protobuf),
        _ => Err(ApiError::unsupported_media_type(READABLE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Result<Form, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        Form::negotiate(&headers, &Query::default())
    }

    #[test]
    fn kubectl_gets_its_table() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(
            negotiate(accept).expect("acceptable").shape,
            Shape::Table("v1".into())
        );
    }

    #[test]
    fn protobuf_falls_back_in_order_or_not_at_all() {
        let accept = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(negotiate(accept).expect("acceptable").media, Media::Json);
        assert_eq!(
            negotiate("application/vnd.kubernetes.protobuf")
                .expect_err("406")
                .code,
            406
        );
    }
}
