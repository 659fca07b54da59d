//! OpenAPI documents, made from the schemas of the kinds when somebody asks. Of version 3 only the hashes are kept, of version 2
//! the last one, compressed.
//!
//! Behaviour: `k8s.io/kube-openapi/pkg/handler` and `handler3`.

mod second;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use api::{AnyKind, Scope, schema};
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use machinery::ApiError;
use machinery::openapi::{Definitions, OWN_PATHS, ServedResource, ServedSubresource, v2, v3};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::aggregation::Remote;
use crate::aggregation::documents::translated;
use crate::aggregation::merge::merge;
use crate::aggregation::proxy::proxy;
use crate::body::Body;
use crate::call::Call;
use crate::discovery::Shown;
use crate::negotiate::Form;
use crate::resource::Resource;
use crate::respond;
use crate::server::Server;

/// What is asked for with an `@` is answered without: Go's own parser of media types takes no `@`.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What the program itself serves.
static FIXED: LazyLock<Vec<ServedResource>> =
    LazyLock::new(|| api::KINDS.iter().map(|kind| served(*kind)).collect());

/// What is kept of documents.
#[derive(Default)]
pub(crate) struct Documents {
    /// The hash of each of version 3 of the program's own group versions, by path.
    index: OnceLock<BTreeMap<String, String>>,
    second: second::Kept,
    second_protobuf: second::Kept,
}

/// What is served now, custom kinds included.
struct Served {
    resources: Vec<ServedResource>,
    custom: Vec<Resource>,
}

impl Served {
    fn now(server: &Server) -> Self {
        let custom = server.resources().all();
        let custom: Vec<_> = custom
            .into_iter()
            .filter(|r| r.kind.may_be_outdated())
            .collect();
        let own = custom.iter().map(|r| served(&*r.kind));
        Self {
            resources: FIXED.iter().cloned().chain(own).collect(),
            custom,
        }
    }

    /// The definitions of a name: those of custom kinds, and what they refer to.
    fn definitions(&self, name: &str, second: bool) -> Option<Definitions> {
        let (own, is_list) = match name.strip_suffix("List") {
            Some(own) if self.custom.iter().any(|r| r.kind.schema_name() == own) => (own, true),
            _ => (name, false),
        };
        let found = self.custom.iter().find(|r| r.kind.schema_name() == own);
        let Some(found) = found else {
            return schema::definitions(name);
        };
        let mut json = found.kind.openapi_schema()?;
        if second {
            simplify_root(&mut json);
        }
        let holder = schema::definitions(META_HOLDER)?;
        describe_meta(&mut json, holder.get(META_HOLDER));
        let mut all = match is_list {
            true => schema::definitions(LIST_META_HOLDER)?,
            false => holder,
        };
        all.retain(|name, _| name.contains(".apis.meta.v1."));
        all.insert(own.to_owned(), json);
        if is_list {
            let kind = found.names().kind;
            all.insert(name.to_owned(), schema::list_definition(own, kind));
        }
        Some(all)
    }
}

/// Kinds whose definitions bring those of metadata with them.
const META_HOLDER: &str = "io.k8s.api.core.v1.ConfigMap";
const LIST_META_HOLDER: &str = "io.k8s.api.core.v1.ConfigMapList";

/// The fields that every kind has are told of in the same words, whatever the definition says of them.
fn describe_meta(schema: &mut Value, of: Option<&Value>) {
    let own = schema.get_mut("properties").and_then(Value::as_object_mut);
    let others = of.and_then(|of| of.get("properties"));
    let (Some(own), Some(others)) = (own, others) else {
        return;
    };
    for field in ["apiVersion", "kind", "metadata"] {
        let description = others.get(field).and_then(|f| f.get("description"));
        let schema = own.get_mut(field).and_then(Value::as_object_mut);
        if let (Some(schema), Some(description)) = (schema, description) {
            schema.insert("description".to_owned(), description.clone());
        }
    }
}

/// A kind that keeps unknown fields is an object and no more: a client that saw some of its fields would refuse others.
fn simplify_root(schema: &mut Value) {
    match keeps_unknown(schema) {
        true => *schema = json!({"type": "object"}),
        false => simplify(schema),
    }
}

fn keeps_unknown(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

/// What version 2 cannot say goes; a client that sees less objects to less.
/// Upstream: apiextensions-apiserver, `pkg/controller/openapi/v2/conversion.go`.
fn simplify(schema: &mut Value) {
    let open = keeps_unknown(schema);
    let Value::Object(map) = schema else { return };
    for key in ["anyOf", "oneOf", "allOf", "not"] {
        map.remove(key);
    }
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if nullable || open {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    let untyped =
        nullable || (open && kind == "object") || (kind == "array" && !map.contains_key("items"));
    if untyped {
        map.remove("type");
    }
    let nullable = |schema: &Value| schema.get("nullable") == Some(&Value::Bool(true));
    let optional: Vec<String> = (map.get("properties").and_then(Value::as_object).into_iter())
        .flatten()
        .filter(|(_, schema)| nullable(schema))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| !optional.iter().any(|o| name == o));
        if required.is_empty() {
            map.remove("required");
        }
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(simplify);
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}

/// Answers a path below `/openapi`.
///
/// # Errors
/// 500: a document could not be made.
pub(crate) async fn answer(call: &Call, rest: &[&str]) -> Result<Response<Body>, ApiError> {
    match rest {
        ["v2"] => second(call).await,
        ["v3"] => {
            let mut paths: BTreeMap<_, _> = index(call)
                .await?
                .iter()
                .map(|(path, hash)| {
                    let url = format!("/openapi/v3/{path}?hash={hash}");
                    (path.clone(), json!({"serverRelativeURL": url}))
                })
                .collect();
            for remote in call.server.aggregation().remotes().iter() {
                for (path, at) in &remote.documents.load().third {
                    paths.entry(path.clone()).or_insert_with(|| at.clone());
                }
            }
            Ok(respond::value(200, &call.form, &json!({"paths": paths})))
        }
        ["v3", path @ ..] => third(call, path.join("/")).await,
        _ => Ok(respond::text(404, "404 page not found\n")),
    }
}

/// Building a document takes long enough to be done beside the road.
pub(crate) async fn build<T: Send + 'static>(
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
    let documents = call.server.openapi();
    let (kept, content_type) = match protobuf {
        true => (&documents.second_protobuf, PROTOBUF),
        false => (&documents.second, "application/json"),
    };
    let server = call.server.clone();
    let document = kept.now(&call.server, move || second_bytes(&server, protobuf));
    let document = document.await?;
    let mut response = match call.form.gzip || is_known(call, &document.hash) {
        true => respond::zipped(200, content_type, document.zipped.clone()),
        false => {
            let document = document.clone();
            let plain = build(move || document.plain()).await?;
            respond::whole(200, &Form::json(), content_type, plain)
        }
    };
    tag(call, &mut response, &document.hash);
    Ok(response)
}

fn second_bytes(server: &Server, protobuf: bool) -> Bytes {
    let now = Served::now(server);
    let source = |name: &str| now.definitions(name, true);
    let mut document = v2::document(&now.resources, &source);
    for remote in server.aggregation().remotes().iter() {
        if let Some(second) = &remote.documents.load().second {
            merge(&mut document, second);
        }
    }
    match protobuf {
        true => v2::encode_protobuf(&document),
        false => Bytes::from(serde_json::to_vec(&document).unwrap_or_default()),
    }
}

async fn third(call: &Call, path: String) -> Result<Response<Body>, ApiError> {
    let server = call.server.clone();
    let wanted = path.clone();
    let made = move || {
        let now = Served::now(&server);
        document(&now, &wanted).map(|d| serde_json::to_vec(&d).unwrap_or_default())
    };
    if let Some(bytes) = build(made).await? {
        return Ok(with_etag(call, "application/json", bytes.into()));
    }
    let remotes = call.server.aggregation().remotes();
    let has = |r: &&Arc<Remote>| r.documents.load().third.contains_key(&path);
    match remotes.iter().find(has) {
        Some(remote) => {
            if let Some(second) = remote.documents.load().translated.clone() {
                let made = build(move || translated(&second)).await?;
                return Ok(with_etag(call, "application/json", made.into()));
            }
            let nothing = Empty::new().map_err(|never| match never {});
            proxy(call, remote, nothing.boxed_unsync()).await
        }
        // Without a word, as upstream.
        None => {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            Ok(nothing)
        }
    }
}

fn with_etag(call: &Call, content_type: &str, bytes: Bytes) -> Response<Body> {
    let hash = hash(&bytes);
    let form = Form {
        gzip: call.form.gzip,
        ..Form::json()
    };
    let mut response = respond::whole(200, &form, content_type, bytes);
    tag(call, &mut response, &hash);
    response
}

/// Whether the client has the document of this hash.
fn is_known(call: &Call, hash: &str) -> bool {
    let known = call.headers.get(IF_NONE_MATCH);
    let known = known.and_then(|v| v.to_str().ok());
    known.is_some_and(|known| known == format!("\"{hash}\""))
}

/// Says which document it is, and no more to who has it.
fn tag(call: &Call, response: &mut Response<Body>, hash: &str) {
    if is_known(call, hash) {
        *response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(value) = HeaderValue::from_str(&format!("\"{hash}\"")) {
        headers.insert(ETAG, value);
    }
}

/// What tells one document from another.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha512::digest(bytes)
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect()
}

/// The documents of version 3 and their hashes.
async fn index(call: &Call) -> Result<BTreeMap<String, String>, ApiError> {
    let server = call.server.clone();
    build(move || {
        let own = Served {
            resources: FIXED.clone(),
            custom: Vec::new(),
        };
        let make = || {
            let hashed = paths(&own).into_iter().filter_map(|path| {
                let bytes = serde_json::to_vec(&document(&own, &path)?).ok()?;
                Some((path, hash(&bytes)))
            });
            hashed.collect()
        };
        let mut index = server.openapi().index.get_or_init(make).clone();
        // The documents of custom kinds are many and may be large: what they are made of tells as well whether they change.
        for resource in Served::now(&server).custom {
            let names = resource.names();
            let (group, version) = (names.group, names.version);
            let custom = server.resources().custom();
            let Some(mark) = custom.fingerprint(group, version) else {
                continue;
            };
            let path = format!("apis/{group}");
            index
                .entry(path.clone())
                .or_insert_with(|| hash(path.as_bytes()));
            let path = format!("{path}/{version}");
            index.insert(path, hash(mark.as_bytes()));
        }
        index
    })
    .await
}

/// The paths that have a document.
fn paths(now: &Served) -> Vec<String> {
    let mut paths = OWN_PATHS.map(str::to_owned).to_vec();
    for resource in &now.resources {
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

fn document(now: &Served, path: &str) -> Option<Value> {
    let source = |name: &str| now.definitions(name, false);
    if !paths(now).iter().any(|known| known == path) {
        return None;
    }
    if let Some(own) = v3::own_document(path, &source) {
        return Some(own);
    }
    let segments: Vec<&str> = path.split('/').collect();
    Some(match segments.as_slice() {
        ["api", version] => v3::group_version_document("", version, &now.resources, &source),
        ["apis", group, version] => {
            v3::group_version_document(group, version, &now.resources, &source)
        }
        _ => return None,
    })
}

fn served(kind: &dyn AnyKind) -> ServedResource {
    let names = kind.names();
    let definition = |group: &str, version: &str, name: &str| match name == names.kind {
        true if kind.may_be_outdated() => kind.schema_name(),
        _ => schema::definition_name(group, version, name),
    };
    let subresources = kind.subresources().iter().map(|subresource| {
        let shown = Shown::of(kind, *subresource);
        let (group, version) = shown.group_version.unwrap_or((names.group, names.version));
        ServedSubresource {
            name: subresource.name().into(),
            group: group.into(),
            version: version.into(),
            definition: definition(group, version, &shown.kind),
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
        definition: definition(names.group, names.version, names.kind),
        merges_plainly: !kind.merges_strategically(),
        subresources: subresources.collect(),
    }
}
