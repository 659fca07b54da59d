//! Answers on the wire: objects, errors, warnings, compression.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderValue, Response, StatusCode};
use machinery::ApiError;
use serde_json::Value;

use crate::body::Body;
use crate::negotiate::{Form, Media};
use crate::protobuf;

/// Answers of more than this many bytes are compressed for those who take it.
const GZIP_FROM: usize = 128 * 1024;

/// An answer with encoded JSON.
pub(crate) fn json_bytes(code: u16, form: &Form, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    if form.media == Media::Json && !form.pretty {
        return whole(code, form, Media::Json.as_str(), bytes);
    }
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => self::value(code, form, &value),
        Err(_) => whole(code, form, Media::Json.as_str(), bytes),
    }
}

/// What is no API object, in JSON that people read: upstream always indents it.
pub(crate) fn indented(form: &Form, value: &Value) -> Response<Body> {
    // A tree of JSON has no way to fail to encode.
    let bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    whole(200, form, Media::Json.as_str(), bytes.into())
}

/// An answer with a tree. What has no protobuf is told in JSON.
pub(crate) fn value(code: u16, form: &Form, value: &Value) -> Response<Body> {
    // A tree of JSON has no way to fail to encode.
    let json = || match form.pretty {
        true => serde_json::to_vec_pretty(value).unwrap_or_default(),
        false => serde_json::to_vec(value).unwrap_or_default(),
    };
    let (media, bytes) = match form.media {
        Media::Json => (Media::Json, json()),
        Media::Yaml => match machinery::codec::encode_yaml(value) {
            Ok(text) => (Media::Yaml, text.into_bytes()),
            Err(_) => (Media::Json, json()),
        },
        Media::Protobuf => match protobuf::encode(value) {
            Some(bytes) => (Media::Protobuf, bytes),
            None => (Media::Json, json()),
        },
        Media::Cbor => (Media::Cbor, machinery::codec::encode_cbor(value)),
    };
    whole(code, form, media.as_str(), bytes.into())
}

/// An answer that is text.
pub(crate) fn plain(code: u16, text: impl Into<String>) -> Response<Body> {
    let bytes = Bytes::from(text.into());
    whole(code, &Form::json(), "text/plain; charset=utf-8", bytes)
}

/// The same, which no browser may take for anything else.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    let mut response = plain(code, text);
    let headers = response.headers_mut();
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The answer to a request that failed.
pub(crate) fn error(form: &Form, error: &ApiError) -> Response<Body> {
    // Who accepts nothing that there is gets JSON.
    let json = Form::json();
    let form = if error.code == 406 { &json } else { form };
    let mut response = match form.media == Media::Json && !form.pretty {
        true => whole(
            error.code,
            form,
            Media::Json.as_str(),
            error.to_json().into(),
        ),
        false => value(error.code, form, &error.to_status()),
    };
    if let Some(seconds) = error
        .details
        .as_ref()
        .map(|d| d.retry_after_seconds)
        .filter(|s| *s > 0)
    {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// An answer of known bytes.
pub(crate) fn whole(code: u16, form: &Form, content_type: &str, bytes: Bytes) -> Response<Body> {
    match form.gzip && bytes.len() > GZIP_FROM {
        true => zipped(code, content_type, gzip(&bytes)),
        false => encoded(code, content_type, bytes),
    }
}

/// An answer of known bytes that are compressed already.
pub(crate) fn zipped(code: u16, content_type: &str, bytes: Bytes) -> Response<Body> {
    let mut response = encoded(code, content_type, bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn encoded(code: u16, content_type: &str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Compresses.
pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing into a Vec has no way to fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().map(Bytes::from).unwrap_or_default()
}

/// Adds a `Warning` header.
pub(crate) fn warn(response: &mut Response<Body>, text: &str) {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        response.headers_mut().append(http::header::WARNING, value);
    }
}
