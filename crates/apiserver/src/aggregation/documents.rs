//! What another server says of itself: the resources of its group version, and its OpenAPI documents.
//!
//! Behaviour: `k8s.io/kube-aggregator/pkg/apiserver/handler_discovery.go`, `.../pkg/controllers/openapi{,v3}/aggregator`.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::User;
use access::user::SYSTEM_MASTERS;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::Remote;
use super::check::get;
use crate::server::Server;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What was last heard.
#[derive(Clone, Default)]
pub(crate) struct Documents {
    /// Whether the last question was answered.
    pub(crate) fresh: bool,
    /// The resources, as aggregated discovery tells them.
    pub(crate) resources: Vec<Value>,
    /// The document of OpenAPI version 2, only the paths of the group version.
    pub(crate) second: Option<Arc<Value>>,
    second_tag: Option<HeaderValue>,
    /// The documents of OpenAPI version 3: path, and where it is found.
    pub(crate) third: BTreeMap<String, Value>,
    /// The document of version 2 that stands for one of version 3, where the server has none.
    pub(crate) translated: Option<Arc<Value>>,
}

/// Asks anew.
pub(super) async fn refresh(server: &Server, remote: &Remote) {
    let mut next = Documents::clone(&remote.documents.load());
    match discovery(server, remote).await {
        Ok(resources) => {
            next.resources = resources;
            next.fresh = true;
        }
        Err(why) => {
            tracing::debug!(apiservice = remote.name, why, "discovery failed");
            next.fresh = false;
        }
    }
    if next.fresh {
        second(server, remote, &mut next).await;
        third(server, remote, &mut next).await;
    }
    remote.documents.store(Arc::new(next));
}

fn accept(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))])
}

async fn discovery(server: &Server, remote: &Remote) -> Result<Vec<Value>, String> {
    let user = User::new("system:kube-aggregator", &[SYSTEM_MASTERS]);
    let asked = get(
        server,
        remote,
        &user,
        "/apis".to_owned(),
        accept(AGGREGATED),
    )
    .await?;
    let (code, headers, body) = asked;
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let aggregated = kind.is_some_and(|kind| {
        let has = |part: &str| kind.split(';').any(|p| p.trim() == part);
        has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
    });
    if code == 503 {
        return Err(format!("non-success response code: {code}"));
    }
    if code == 200 && aggregated {
        let document: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        return Ok(of_aggregated(&document, &remote.group, &remote.version));
    }
    // It knows the old form only.
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let user = User::new("system:kube-aggregator", &[]);
    let (code, _, body) = get(server, remote, &user, path, accept("application/json")).await?;
    if code != 200 {
        return Err(format!("non-success response code: {code}"));
    }
    let document: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    Ok(of_legacy(&document))
}

/// The resources of a group version in a document of all.
fn of_aggregated(document: &Value, group: &str, version: &str) -> Vec<Value> {
    let groups = document["items"].as_array().into_iter().flatten();
    let groups = groups.filter(|g| g["metadata"]["name"].as_str().unwrap_or("") == group);
    let versions = groups.flat_map(|g| g["versions"].as_array().into_iter().flatten());
    let found = versions.into_iter().find(|v| v["version"] == version);
    let resources = found.and_then(|v| v["resources"].as_array());
    let mut resources = resources.cloned().unwrap_or_default();
    // Clients of 1.26 fall over what is not there.
    let fill = |of: &mut Value| {
        if of["responseKind"].is_null() {
            of["responseKind"] = json!({"group": "", "version": "", "kind": ""});
        }
    };
    for resource in &mut resources {
        fill(resource);
        if let Some(all) = resource["subresources"].as_array_mut() {
            all.iter_mut().for_each(fill);
        }
    }
    resources
}

/// The same of a document of the old form.
fn of_legacy(document: &Value) -> Vec<Value> {
    let scope = |r: &Value| match r["namespaced"].as_bool() {
        Some(true) => "Namespaced",
        _ => "Cluster",
    };
    let kind = |r: &Value| {
        let text = |field: &str| r[field].as_str().unwrap_or("");
        json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
    };
    let mut out: Vec<Value> = Vec::new();
    for found in document["resources"].as_array().into_iter().flatten() {
        let name = found["name"].as_str().unwrap_or("");
        let Some((parent, subresource)) = name.split_once('/') else {
            let mut told = json!({
                "resource": name, "responseKind": kind(found), "scope": scope(found),
                "singularResource": found["singularName"], "verbs": found["verbs"],
            });
            for field in ["shortNames", "categories"] {
                if found[field].is_array() {
                    told[field] = found[field].clone();
                }
            }
            out.push(told);
            continue;
        };
        let told = json!({
            "subresource": subresource, "responseKind": kind(found), "verbs": found["verbs"],
        });
        let at = out.iter().position(|r| r["resource"] == parent);
        let at = at.unwrap_or_else(|| {
            out.push(json!({"resource": parent, "scope": scope(found)}));
            out.len() - 1
        });
        match out[at]["subresources"].as_array_mut() {
            Some(all) => all.push(told),
            None => out[at]["subresources"] = vec![told].into(),
        }
    }
    out
}

async fn second(server: &Server, remote: &Remote, next: &mut Documents) {
    let user = User::new("system:aggregator", &[]);
    let mut headers = accept("application/json");
    if let (Some(tag), true) = (&next.second_tag, next.second.is_some()) {
        headers.insert(IF_NONE_MATCH, tag.clone());
    }
    let asked = get(server, remote, &user, "/openapi/v2".to_owned(), headers).await;
    match asked {
        Ok((304, ..)) => {}
        Ok((200, headers, body)) => {
            let document = serde_json::from_slice::<Value>(&body).ok();
            let prefix = format!("/apis/{}/{}/", remote.group, remote.version);
            next.second = document.map(|d| Arc::new(below(d, &prefix)));
            next.second_tag = headers.get(ETAG).cloned();
        }
        Ok((404, ..)) => next.second = None,
        // It may be better next time; until then what was heard last holds.
        Ok(_) | Err(_) => {}
    }
}

/// A document without the paths that are not the group version's.
fn below(mut document: Value, prefix: &str) -> Value {
    let bare = prefix.trim_end_matches('/');
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|path, _| path.starts_with(prefix) || path == bare);
    }
    document
}

async fn third(server: &Server, remote: &Remote, next: &mut Documents) {
    let user = User::new("system:aggregator", &[]);
    let headers = accept("application/json");
    let asked = get(server, remote, &user, "/openapi/v3".to_owned(), headers).await;
    let body = match asked {
        Ok((200, _, body)) => body,
        Ok((404, ..)) => return translate(remote, next).await,
        _ => {
            next.third = BTreeMap::new();
            return;
        }
    };
    next.translated = None;
    let document = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let paths = document["paths"].as_object();
    let empty = Map::new();
    let paths = paths.unwrap_or(&empty).iter();
    next.third = paths.map(|(k, v)| (k.clone(), v.clone())).collect();
}

/// A server without version 3 is told of by its version 2.
async fn translate(remote: &Remote, next: &mut Documents) {
    let same = match (&next.second, &next.translated) {
        (Some(now), Some(before)) => Arc::ptr_eq(now, before),
        _ => false,
    };
    if same {
        return;
    }
    next.translated = next.second.clone();
    next.third = BTreeMap::new();
    let Some(second) = next.second.clone() else {
        return;
    };
    let path = format!("apis/{}/{}", remote.group, remote.version);
    let hashed = crate::openapi::build(move || crate::openapi::hash(&translated(&second)));
    if let Ok(hash) = hashed.await {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        let at = json!({"serverRelativeURL": url});
        next.third.insert(path, at);
    }
}

/// The bytes of a document of version 2 in version 3.
pub(crate) fn translated(second: &Value) -> Vec<u8> {
    // A tree of JSON has no way to fail to encode.
    serde_json::to_vec(&machinery::openapi::translate(second)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_discovery_tell_the_same() {
        let legacy = json!({"kind": "APIResourceList", "groupVersion": "a.example.com/v1", "resources": [
            {"name": "dogs", "singularName": "dog", "namespaced": true, "kind": "Dog", "verbs": ["get"], "shortNames": ["d"]},
            {"name": "dogs/status", "singularName": "", "namespaced": true, "kind": "Dog", "verbs": ["update"]},
        ]});
        let told = of_legacy(&legacy);
        let aggregated = json!({"items": [{"metadata": {"name": "a.example.com"}, "versions": [
            {"version": "v1", "resources": told.clone()}, {"version": "v2", "resources": []},
        ]}]});
        assert_eq!(of_aggregated(&aggregated, "a.example.com", "v1"), told);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["subresources"][0]["subresource"], "status");
        assert_eq!(told[0]["scope"], "Namespaced");
    }
}
