//! What a request asks for, read from its method, path and query alone.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`.

use std::borrow::Cow;
use std::num::{IntErrorKind, ParseIntError};

use http::{HeaderMap, Method};
use machinery::ApiError;
use percent_encoding::percent_decode_str;

use crate::negotiate::Form;

/// Reads all that the front reads of a request before anybody is asked: method, path and query, what kind of answer the
/// `accept` header wants. For those who try whether it holds.
pub fn probe(method: &str, target: &str, accept: &str) -> String {
    let method = method.parse().unwrap_or(Method::GET);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::parse(query);
    let info = RequestInfo::parse(&method, path, &query);
    let mut headers = HeaderMap::new();
    if let Ok(accept) = accept.parse() {
        headers.insert(http::header::ACCEPT, accept);
    }
    let form = Form::lenient(&headers, &query);
    let selectors = ["labelSelector", "fieldSelector"].map(|key| query.text(key));
    let labels = machinery::labels::Selector::parse(selectors[0]);
    let fields = machinery::fields::Selector::parse(selectors[1]);
    format!("{info:?} {form:?} {labels:?} {fields:?}")
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        Self(
            form_urlencoded::parse(raw.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The first value, empty when absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// A parameter as the API reads booleans: present and neither `0` nor `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "0" | "false"))
    }

    /// A number that is not there, or can be read.
    ///
    /// # Errors
    /// 400 in the words of Go.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
    }
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// The path, decoded.
    pub(crate) path: String,
    /// Whether the path names a resource of the API.
    pub(crate) is_resource: bool,
    /// The verb of authorization; for other paths the method in lower case.
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// What follows the sub-resource, undecoded, for proxies; begins with `/` unless empty.
    pub(crate) rest: String,
    /// Segments too many for anything that is not a proxy.
    pub(crate) overlong: bool,
}

impl RequestInfo {
    /// Reads a request.
    pub(crate) fn parse(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = decode(raw_path).into_owned();
        let mut info = Self {
            path,
            verb: method_name(method),
            ..Self::default()
        };
        let raw: Vec<&str> = raw_path.trim_matches('/').split('/').collect();
        let segments: Vec<Cow<'_, str>> = raw.iter().map(|s| decode(s)).collect();
        let used = match segments.first().map(AsRef::as_ref) {
            Some("api") if segments.len() >= 3 => 2,
            Some("apis") if segments.len() >= 4 => 3,
            _ => return info,
        };
        if used == 3 {
            info.group = segments[1].to_string();
        }
        info.version = segments[used - 1].to_string();
        info.is_resource = true;
        info.verb = resource_verb(method);
        info.read_segments(&segments[used..], &raw[used..]);
        info.refine_verb(method, query);
        info
    }

    fn read_segments(&mut self, segments: &[Cow<'_, str>], raw: &[&str]) {
        let (mut segments, mut raw) = (segments, raw);
        if segments[0] == "watch" && segments.len() > 1 {
            self.verb = "watch";
            (segments, raw) = (&segments[1..], &raw[1..]);
        }
        if segments[0] == "namespaces" && segments.len() > 1 {
            self.namespace = segments[1].to_string();
            if segments.len() > 2 && !matches!(segments[2].as_ref(), "status" | "finalize") {
                (segments, raw) = (&segments[2..], &raw[2..]);
            }
        }
        let at = |i: usize| segments.get(i).map(ToString::to_string).unwrap_or_default();
        (self.resource, self.name, self.subresource) = (at(0), at(1), at(2));
        if raw.len() > 3 {
            self.rest = format!("/{}", raw[3..].join("/"));
            self.overlong = self.subresource != "proxy";
        }
    }

    fn refine_verb(&mut self, method: &Method, query: &Query) {
        if self.name.is_empty() && self.verb == "get" && *method != Method::OPTIONS {
            self.verb = if query.flag("watch") { "watch" } else { "list" };
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection";
        }
        if matches!(self.verb, "list" | "watch" | "deletecollection") && self.name.is_empty() {
            // A selector of one name is authorized like the name itself.
            let selected = query.text("fieldSelector").split(',').find_map(|term| {
                let value = term.strip_prefix("metadata.name=")?;
                Some(value.strip_prefix('=').unwrap_or(value))
            });
            self.name = selected.unwrap_or("").to_owned();
        }
    }

    /// Whether the request may stay open for as long as it likes.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(
                self.subresource.as_str(),
                "exec" | "attach" | "portforward" | "proxy" | "log"
            )
    }
}

fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::GET => "get",
        Method::HEAD => "head",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, target: &str) -> RequestInfo {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn verbs_and_parts_follow_the_path() {
        let cases = [
            (Method::GET, "/api/v1/pods", "list|||pods||"),
            (Method::GET, "/api/v1/pods?watch=1", "watch|||pods||"),
            (Method::GET, "/api/v1/watch/pods", "watch|||pods||"),
            (Method::GET, "/api/v1/namespaces/a", "get||a|namespaces|a|"),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update||a|namespaces|a|finalize",
            ),
            (
                Method::GET,
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "get|apps|a|deployments|b|scale",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/a/pods",
                "deletecollection||a|pods||",
            ),
            (
                Method::GET,
                "/api/v1/pods?fieldSelector=metadata.name%3Dx",
                "list|||pods|x|",
            ),
        ];
        for (method, target, wanted) in cases {
            let i = parse(method, target);
            let got = [
                i.verb,
                &i.group,
                &i.namespace,
                &i.resource,
                &i.name,
                &i.subresource,
            ];
            assert_eq!(got.join("|"), wanted, "{target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read(path in "(/|api|apis|watch|namespaces|v1|pods|proxy|%2f|%|\\PC){0,20}", query in "\\PC*") {
            let query = Query::parse(&query);
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let info = RequestInfo::parse(&method, &path, &query);
                proptest::prop_assert!(!info.is_resource || !info.version.is_empty() || path.contains("//"));
            }
        }
    }

    #[test]
    fn other_paths_keep_their_method() {
        let info = parse(Method::GET, "/healthz/ping");
        assert!(!info.is_resource);
        assert_eq!((info.verb, info.path.as_str()), ("get", "/healthz/ping"));
        assert!(!parse(Method::GET, "/apis/apps/v1").is_resource);
    }
}
