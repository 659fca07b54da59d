//! Which form of an answer a client wants, and how a body of its own is encoded.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/handlers/negotiation`. JSON, YAML, protobuf and CBOR are spoken. Errors name
//! the first three, as upstream does whose gate for CBOR is closed unless somebody opens it.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use machinery::ApiError;

use crate::request::Query;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The encodings of bodies and answers, as errors name them.
pub(crate) const SUPPORTED: &[&str] = &["application/json", "application/yaml", PROTOBUF];
/// The encodings of watches, as errors name them.
pub(crate) const STREAMS: &[&str] = &[
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
    Cbor,
}

impl Media {
    /// The `Content-Type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
            Self::Cbor => "application/cbor",
        }
    }

    /// The `Content-Type` of a watch.
    pub(crate) fn as_stream(self) -> &'static str {
        match self {
            Self::Protobuf => STREAMS[1],
            Self::Cbor => "application/cbor-seq",
            Self::Json | Self::Yaml => "application/json",
        }
    }
}

/// Refuses who accepts nothing that a route produces, whatever else is wrong. Parameters do not count, and of wildcards
/// only the one for everything. Behaviour: `Route.matchesAccept` of `go-restful`.
///
/// # Errors
/// 406.
pub(crate) fn produce(headers: &HeaderMap, produced: &[&str]) -> Result<(), ApiError> {
    // Served beyond what upstream serves.
    const UNTOLD: [&str; 2] = ["application/cbor", "application/cbor-seq"];
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let text = text.filter(|text| !text.is_empty()).unwrap_or("*/*");
    let mut types = text.split(',').map(|one| match one.split_once(';') {
        Some((media, _)) => media.trim(),
        None => one.trim(),
    });
    if types.any(|media| media == "*/*" || produced.contains(&media) || UNTOLD.contains(&media)) {
        return Ok(());
    }
    Err(ApiError::of_route(
        406,
        "NotAcceptable",
        format!(
            "406: Not Acceptable\n\nAvailable representations: {}",
            produced.join(", ")
        ),
    ))
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
    /// The encodings that it names, best first.
    media: &'static [Media],
    /// How many wildcards it has.
    wildcards: u8,
    quality: f32,
    convert: As,
    pretty: bool,
    /// The parameter `stream` is absent, or one that there is.
    is_stream_known: bool,
    /// It is there.
    is_stream: bool,
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
    /// The metadata that is asked for is that of a list.
    pub(crate) is_list_of_metadata: bool,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Form {
    /// Plain JSON.
    pub(crate) fn json() -> Self {
        Self {
            media: Media::Json,
            shape: Shape::Object,
            is_list_of_metadata: false,
            pretty: false,
            gzip: false,
        }
    }

    /// What the client wants of an endpoint that can turn objects into tables and partial metadata. Custom kinds have no
    /// protobuf of their own; their metadata has.
    ///
    /// # Errors
    /// 406.
    pub(crate) fn negotiate(
        headers: &HeaderMap,
        query: &Query,
        custom: bool,
    ) -> Result<Self, ApiError> {
        for accepted in accepted(headers) {
            for &media in accepted.media {
                let Some(shape) = shape_of(&accepted.convert) else {
                    continue;
                };
                let refused = match shape {
                    // Nobody watches in YAML.
                    _ if media == Media::Yaml && accepted.is_stream => true,
                    Shape::Object => custom && media == Media::Protobuf,
                    Shape::Table(_) => matches!(media, Media::Protobuf | Media::Cbor),
                    Shape::Partial(_) => false,
                };
                if !refused && accepted.is_stream_known {
                    return Ok(Self {
                        media,
                        shape,
                        is_list_of_metadata: accepted.convert.kind == "PartialObjectMetadataList",
                        pretty: accepted.pretty || wants_pretty(headers, query),
                        gzip: wants_gzip(headers),
                    });
                }
            }
        }
        Err(ApiError::not_acceptable(SUPPORTED))
    }

    /// What the client wants of a watch, which YAML has no form for.
    ///
    /// # Errors
    /// 406.
    pub(crate) fn negotiate_watch(
        headers: &HeaderMap,
        query: &Query,
        custom: bool,
    ) -> Result<Self, ApiError> {
        match Self::negotiate(headers, query, custom) {
            Ok(form) if form.media != Media::Yaml => Ok(Self {
                pretty: false,
                ..form
            }),
            Ok(_) => Err(ApiError::not_acceptable(STREAMS)),
            Err(error) => Err(error),
        }
    }

    /// What the client wants of an endpoint with one shape.
    ///
    /// # Errors
    /// 406.
    pub(crate) fn plain(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        match plain_media(headers) {
            Some(_) => Ok(Self::lenient(headers, query)),
            None => Err(ApiError::not_acceptable(SUPPORTED)),
        }
    }

    /// The same; never fails, for errors must be told somehow.
    pub(crate) fn lenient(headers: &HeaderMap, query: &Query) -> Self {
        let media = plain_media(headers);
        let (pretty, gzip) = (wants_pretty(headers, query), wants_gzip(headers));
        Self {
            media: media.unwrap_or(Media::Json),
            shape: Shape::Object,
            is_list_of_metadata: false,
            pretty,
            gzip,
        }
    }
}

/// The best encoding that is asked for as it is, not in another shape.
fn plain_media(headers: &HeaderMap) -> Option<Media> {
    let mut plain = accepted(headers).into_iter().filter(|a| {
        let is_stream_of_yaml = a.is_stream && a.media.first() == Some(&Media::Yaml);
        a.convert == As::default() && a.is_stream_known && !is_stream_of_yaml
    });
    plain.find_map(|accepted| accepted.media.first().copied())
}

/// The shape that the parameters ask for; `None` when there is no such shape.
fn shape_of(convert: &As) -> Option<Shape> {
    if *convert == As::default() {
        return Some(Shape::Object);
    }
    let version = &convert.version;
    if convert.group != "meta.k8s.io" || !matches!(version.as_str(), "v1" | "v1beta1") {
        return None;
    }
    match convert.kind.as_str() {
        "Table" => Some(Shape::Table(version.clone())),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => {
            Some(Shape::Partial(version.clone()))
        }
        _ => None,
    }
}

/// The media type parameters with `as`, in the client's order of preference.
pub(crate) fn conversions(headers: &HeaderMap) -> Vec<As> {
    accepted(headers)
        .into_iter()
        .filter(|a| a.media.contains(&Media::Json))
        .map(|a| a.convert)
        .collect()
}

fn accepted(headers: &HeaderMap) -> Vec<Accepted> {
    // Like Go's `Header.Get`: the first of several headers counts.
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let text = text.unwrap_or("");
    if text.is_empty() {
        return vec![parse_accepted("application/json")];
    }
    let mut all: Vec<Accepted> = text.split(',').map(parse_accepted).collect();
    all.sort_by(|a, b| {
        let by_quality = b.quality.total_cmp(&a.quality);
        by_quality.then(a.wildcards.cmp(&b.wildcards))
    });
    all
}

fn parse_accepted(text: &str) -> Accepted {
    let mut parts = text.split(';').map(str::trim);
    let any = &[Media::Json, Media::Yaml, Media::Protobuf, Media::Cbor];
    let (media, wildcards): (&[Media], u8) = match parts.next().unwrap_or("") {
        "*/*" | "*" => (any, 2),
        "application/*" => (any, 1),
        "application/json" => (&any[..1], 0),
        "application/yaml" => (&any[1..2], 0),
        PROTOBUF => (&any[2..3], 0),
        // The form of a watch; asked for anything else it means the same encoding.
        "application/cbor" | "application/cbor-seq" => (&any[3..], 0),
        _ => (&[], 0),
    };
    let mut accepted = Accepted {
        media,
        wildcards,
        quality: 1.0,
        convert: As::default(),
        pretty: false,
        is_stream_known: true,
        is_stream: false,
    };
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        let value = value.trim();
        match key.trim() {
            "q" => accepted.quality = value.parse().unwrap_or(1.0),
            "as" => value.clone_into(&mut accepted.convert.kind),
            "g" => value.clone_into(&mut accepted.convert.group),
            "v" => value.clone_into(&mut accepted.convert.version),
            "pretty" => accepted.pretty = value == "1",
            "stream" => {
                accepted.is_stream_known = matches!(value, "" | "watch");
                accepted.is_stream = !value.is_empty();
            }
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
        "application/cbor" => Ok(Media::Cbor),
        _ => Err(ApiError::unsupported_media_type(SUPPORTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate_for(accept: &str, custom: bool) -> Result<Form, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        Form::negotiate(&headers, &Query::default(), custom)
    }

    fn media(accept: &str) -> Option<Media> {
        negotiate_for(accept, false).ok().map(|form| form.media)
    }

    #[test]
    fn kubectl_gets_its_table() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let form = negotiate_for(accept, false).expect("acceptable");
        assert_eq!(form.shape, Shape::Table("v1".into()));
    }

    #[test]
    fn the_best_of_what_is_accepted_is_chosen() {
        for (accept, wanted) in [
            (PROTOBUF, Some(Media::Protobuf)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Media::Protobuf),
            ),
            (
                "application/json;q=0.5, application/yaml",
                Some(Media::Yaml),
            ),
            ("*/*", Some(Media::Json)),
            ("application/*, application/yaml", Some(Media::Yaml)),
            ("text/html, application/cbor;q=0.1", Some(Media::Cbor)),
            ("text/html", None),
            ("application/json;stream=other", None),
            ("application/json;as=Nothing;v=v1;g=meta.k8s.io", None),
        ] {
            assert_eq!(media(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn tables_are_text_and_custom_kinds_have_no_protobuf() {
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(media(table), None);
        assert_eq!(
            media(&format!("{table},application/json")),
            Some(Media::Json)
        );
        assert_eq!(negotiate_for(PROTOBUF, true).expect_err("406").code, 406);
        let partial =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(
            negotiate_for(partial, true).expect("acceptable").media,
            Media::Protobuf
        );
    }
}
