//! How a webhook is reached: a URL or a service.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/util/webhook/validation.go`.

use k8s_openapi::ByteString;
use machinery::{ErrorList, Path, certificate, names};

use super::{ErrorListExt, json};

const FORM: &str = "; desired format: https://host[/path]";

/// A URL, which must be one of HTTPS.
pub fn url(errors: &mut ErrorList, at: &Path, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(at, scheme, why);
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let (user, host) = match host.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, host),
    };
    if host.is_empty() || scheme.is_empty() {
        errors.invalid(at, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(at, user, "user information is not permitted in the URL");
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        errors.invalid(at, fragment, "fragments are not permitted in the URL");
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    if !query.is_empty() {
        errors.invalid(at, query, "query parameters are not permitted in the URL");
    }
}

/// The authorities that a webhook is believed by.
pub fn authorities(errors: &mut ErrorList, at: &Path, bundle: &ByteString) {
    if let Err(why) = certificate::check_authorities(&bundle.0) {
        errors.invalid(at, json(bundle), why);
    }
}

/// A service: what its namespace, its name, the path and the port may be.
pub fn service(
    errors: &mut ErrorList,
    at: &Path,
    (namespace, name): (&str, &str),
    path: Option<&str>,
    port: Option<i32>,
) {
    errors.required_text(&at.child("name"), name, "");
    errors.required_text(&at.child("namespace"), namespace, "");
    let port = port.unwrap_or(443);
    let problems = names::port_number(port.into());
    if !problems.is_empty() {
        let why = format!("port is not valid: {}", problems.join(", "));
        errors.invalid(&at.child("port"), port, why);
    }
    let at = at.child("path");
    let Some(path) = path else {
        return;
    };
    if path == "/" || path.is_empty() {
        return;
    }
    if path == "//" {
        return errors.invalid(&at, path, "segment[0] may not be empty");
    }
    let rest = path.strip_prefix('/').unwrap_or(path);
    if rest == path {
        errors.invalid(&at, path, "must start with a '/'");
    }
    let segments: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        if segment.is_empty() {
            errors.invalid(&at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            errors.invalid(&at, path, format!("segment[{i}]: {problem}"));
        }
    }
}
