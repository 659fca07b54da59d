//! Aggregated discovery: everything in one document, with an ETag.

use std::sync::Arc;

use api::{AnyKind, Scope, Subresource};
use bytes::Bytes;
use http::header::{ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Group, Shown, listed, of_version, subresources, verbs, versions};
use crate::aggregation::Remote;
use crate::body::Body;
use crate::call::Call;
use crate::resource::Resource;
use crate::respond;

/// The document for the core group (`/api`) or for all others (`/apis`).
pub(super) fn answer(
    call: &Call,
    all: &[Resource],
    core: bool,
    api_version: &str,
) -> Response<Body> {
    let groups: Vec<Value> = match core {
        true => vec![group(
            call,
            all,
            &Group {
                name: String::new(),
                versions: versions(all, "").into_iter().map(str::to_owned).collect(),
            },
        )],
        false => listed(call, all)
            .iter()
            .map(|g| group(call, all, g))
            .collect(),
    };
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{api_version}"),
        "metadata": {}, "items": groups,
    });
    let bytes = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    let etag = format!("\"{digest}\"");
    let known = call
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        == Some(etag.as_str());
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={api_version};as=APIGroupDiscoveryList");
    let mut response = respond::whole(200, &call.form, &content_type, bytes);
    if known {
        response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    response
}

fn group(call: &Call, all: &[Resource], Group { name, versions }: &Group) -> Value {
    let metadata = if name.is_empty() {
        json!({})
    } else {
        json!({"name": name})
    };
    let remotes = call.server.aggregation().remotes();
    let version = |version: &String| {
        let of = |r: &&Arc<Remote>| r.group == *name && r.version == *version;
        if let Some(remote) = remotes.iter().find(of) {
            let documents = remote.documents.load();
            let freshness = if documents.fresh { "Current" } else { "Stale" };
            return json!({
                "version": version, "resources": documents.resources, "freshness": freshness,
            });
        }
        let resources: Vec<Value> = of_version(all, name, version)
            .into_iter()
            .map(resource)
            .collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"metadata": metadata, "versions": versions})
}

/// Custom kinds name their group and version.
fn response_kind(kind: &dyn AnyKind, shown: &str) -> Value {
    let names = kind.names();
    let (group, version) = match kind.may_be_outdated() {
        true => (names.group, names.version),
        false => ("", ""),
    };
    json!({"group": group, "version": version, "kind": shown})
}

fn resource(resource: &Resource) -> Value {
    let kind = &*resource.kind;
    let names = kind.names();
    let scope = if kind.scope() == Scope::Namespaced {
        "Namespaced"
    } else {
        "Cluster"
    };
    let mut out = json!({
        "resource": names.plural,
        "responseKind": response_kind(kind, names.kind),
        "scope": scope, "singularResource": names.singular, "verbs": verbs(kind),
    });
    if !names.short.is_empty() {
        out["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        out["categories"] = json!(names.categories);
    }
    let subresources = subresources(kind);
    if !subresources.is_empty() {
        let all = subresources.into_iter().map(|s| subresource(kind, s));
        out["subresources"] = all.collect::<Vec<_>>().into();
    }
    out
}

fn subresource(kind: &dyn AnyKind, subresource: Subresource) -> Value {
    let shown = Shown::of(kind, subresource);
    let response_kind = match shown.group_version {
        Some((group, version)) => json!({"group": group, "version": version, "kind": shown.kind}),
        None => response_kind(kind, &shown.kind),
    };
    json!({
        "subresource": subresource.name(),
        "responseKind": response_kind,
        "verbs": shown.verbs,
    })
}
