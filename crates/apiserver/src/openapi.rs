//! OpenAPI documents, made from the schemas of the kinds when somebody asks. Only their hashes are kept.
//!
//! Behaviour: `k8s.io/kube-openapi/pkg/handler` and `handler3`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use api::{AnyKind, Scope, schema};
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response, StatusCode};
use machinery::ApiError;
use machinery::openapi::{ServedResource, ServedSubresource, v2, v3};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::body::Body;
use crate::call::Call;
use crate::discovery::Shown;
use crate::negotiate::Form;
use crate::respond;

const VERSION: &str = "v1.37.0";
/// What is asked for with an `@` is answered without: Go's own parser of media types takes no `@`.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

static RESOURCES: LazyLock<Vec<ServedResource>> =
    LazyLock::new(|| api::KINDS.iter().map(|kind| served(*kind)).collect());

/// The hash of each document that was made, by path and form.
#[derive(Default)]
pub(crate) struct Hashes {
    index: OnceLock<BTreeMap<String, String>>,
}

/// Answers a path below `/openapi`.
///
/// # Errors
/// 500: a document could not be made.
pub(crate) async fn answer(call: &Call, rest: &[&str]) -> Result<Response<Body>, ApiError> {
    match rest {
        ["v2"] => second(call).await,
        ["v3"] => {
            let paths: BTreeMap<_, _> = index(call)
                .await?
                .iter()
                .map(|(path, hash)| {
                    let url = format!("/openapi/v3/{path}?hash={hash}");
                    (path.clone(), json!({"serverRelativeURL": url}))
                })
                .collect();
            Ok(respond::value(200, &call.form, &json!({"paths": paths})))
        }
        ["v3", path @ ..] => third(call, path.join("/")).await,
        _ => Ok(respond::text(404, "404 page not found\n")),
    }
}

/// Building a document takes long enough to be done beside the road.
async fn build<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(ApiError::internal)
}

async fn second(call: &Call) -> Result<Response<Body>, ApiError> {
    let accept = call
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let protobuf = accept.contains("com.github.proto-openapi.spec.v2");
    let bytes = build(move || {
        let document = v2::document(&RESOURCES, schema::definitions, VERSION);
        match protobuf {
            true => v2::encode_protobuf(&document),
            false => Bytes::from(serde_json::to_vec(&document).unwrap_or_default()),
        }
    });
    let content_type = if protobuf {
        PROTOBUF
    } else {
        "application/json"
    };
    Ok(with_etag(call, content_type, bytes.await?))
}

async fn third(call: &Call, path: String) -> Result<Response<Body>, ApiError> {
    match build(move || document(&path).map(|d| serde_json::to_vec(&d).unwrap_or_default())).await?
    {
        None => Ok(respond::text(404, "404 page not found\n")),
        Some(bytes) => Ok(with_etag(call, "application/json", bytes.into())),
    }
}

fn with_etag(call: &Call, content_type: &str, bytes: Bytes) -> Response<Body> {
    let etag = format!("\"{}\"", hash(&bytes));
    let known = call
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        == Some(etag.as_str());
    let form = Form {
        gzip: call.form.gzip,
        ..Form::json()
    };
    let mut response = respond::whole(200, &form, content_type, bytes);
    if known {
        response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

fn hash(bytes: &[u8]) -> String {
    Sha512::digest(bytes)
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect()
}

/// The documents of version 3 and their hashes.
async fn index(call: &Call) -> Result<BTreeMap<String, String>, ApiError> {
    let server = call.server.clone();
    build(move || {
        let make = || {
            let hashed = paths().into_iter().filter_map(|path| {
                let bytes = serde_json::to_vec(&document(&path)?).ok()?;
                Some((path, hash(&bytes)))
            });
            hashed.collect()
        };
        server.openapi().index.get_or_init(make).clone()
    })
    .await
}

/// The paths that have a document.
fn paths() -> Vec<String> {
    let mut paths = vec!["api".to_owned(), "apis".to_owned()];
    for resource in RESOURCES.iter() {
        match resource.group.as_str() {
            "" => paths.push(format!("api/{}", resource.version)),
            group => {
                paths.push(format!("apis/{group}"));
                paths.push(format!("apis/{group}/{}", resource.version));
            }
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn document(path: &str) -> Option<Value> {
    if !paths().iter().any(|known| known == path) {
        return None;
    }
    let segments: Vec<&str> = path.split('/').collect();
    Some(match segments.as_slice() {
        ["api"] => v3::core_versions_document(schema::definitions),
        ["apis"] => v3::groups_document(schema::definitions),
        ["api", version] => {
            v3::group_version_document("", version, &RESOURCES, schema::definitions)
        }
        ["apis", group] => v3::group_document(group, schema::definitions),
        ["apis", group, version] => {
            v3::group_version_document(group, version, &RESOURCES, schema::definitions)
        }
        _ => return None,
    })
}

fn served(kind: &dyn AnyKind) -> ServedResource {
    let names = kind.names();
    let subresources = kind.subresources().iter().map(|subresource| {
        let shown = Shown::of(kind, *subresource);
        let (group, version) = shown.group_version.unwrap_or((names.group, names.version));
        ServedSubresource {
            name: subresource.name().into(),
            group: group.into(),
            version: version.into(),
            definition: schema::definition_name(group, version, &shown.kind),
            kind: shown.kind,
            verbs: shown.verbs.iter().map(|v| (*v).to_owned()).collect(),
        }
    });
    ServedResource {
        group: names.group.into(),
        version: names.version.into(),
        kind: names.kind.into(),
        plural: names.plural.into(),
        namespaced: kind.scope() == Scope::Namespaced,
        verbs: kind.verbs().iter().map(|v| v.as_str().to_owned()).collect(),
        definition: schema::definition_name(names.group, names.version, names.kind),
        subresources: subresources.collect(),
    }
}
