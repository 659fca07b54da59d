//! An API server made of a map: enough of lists, watches, patches and deletions for a kubelet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Plural, namespace, name.
type Key = (String, String, String);

pub(super) struct Api {
    objects: Mutex<BTreeMap<Key, Value>>,
    version: Mutex<u64>,
    changes: broadcast::Sender<(String, Value)>,
    /// All changes there were, for watches that begin in the past.
    history: Mutex<Vec<(String, Value)>>,
}

impl Api {
    pub(super) fn new() -> Arc<Api> {
        Arc::new(Api {
            objects: Mutex::default(),
            version: Mutex::new(1),
            changes: broadcast::Sender::new(1024),
            history: Mutex::default(),
        })
    }

    pub(super) fn client(self: &Arc<Api>) -> kube::Client {
        let api = Arc::clone(self);
        client::connect::in_process(tower_of(move |request| {
            let api = Arc::clone(&api);
            async move { api.answer(request).await }
        }))
    }

    fn next_version(&self) -> String {
        let mut version = self.version.lock();
        *version += 1;
        version.to_string()
    }

    /// Puts an object and tells those who watch.
    pub(super) fn put(&self, plural: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = self.next_version().into();
        let text = |key: &str| {
            object["metadata"][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = (plural.to_owned(), text("namespace"), text("name"));
        let mut objects = self.objects.lock();
        let known = objects.insert(key, object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let event = json!({"type": kind, "object": object});
        self.tell(plural, event);
    }

    fn tell(&self, plural: &str, event: Value) {
        let mut history = self.history.lock();
        let change = (plural.to_owned(), event);
        history.push(change.clone());
        drop(self.changes.send(change));
    }

    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.lock().get(&key).cloned()
    }

    pub(super) fn change(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let mut object = self.get(plural, namespace, name).unwrap();
        change(&mut object);
        self.put(plural, object);
    }

    pub(super) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(mut object) = self.objects.lock().remove(&key) {
            object["metadata"]["resourceVersion"] = self.next_version().into();
            let event = json!({"type": "DELETED", "object": object});
            self.tell(plural, event);
        }
    }

    /// Reason and message of all events, in the order of their names.
    pub(super) fn events(&self) -> Vec<String> {
        let objects = self.objects.lock();
        let mut events: Vec<&Value> = objects
            .iter()
            .filter(|(k, _)| k.0 == "events")
            .map(|(_, v)| v)
            .collect();
        let version = |v: &Value| {
            v["metadata"]["resourceVersion"]
                .as_str()?
                .parse::<u64>()
                .ok()
        };
        events.sort_by_key(|e| version(e));
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let lines = events
            .into_iter()
            .filter(|e| e["involvedObject"]["kind"] == "Pod")
            .map(|e| {
                format!(
                    "{} {}: {}",
                    text(&e["type"]),
                    text(&e["reason"]),
                    text(&e["message"])
                )
            });
        lines.collect()
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let parts = if parts[0] == "api" {
            &parts[2..]
        } else {
            &parts[3..]
        };
        let (namespace, parts) = match parts {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        match (method, parts) {
            (Method::GET, [plural]) if query.contains_key("watch") => self.watch(plural, &query),
            (Method::GET, [plural]) => self.list(plural, &query),
            (Method::GET, [plural, name]) => self.found(plural, namespace, name),
            (Method::POST, ["serviceaccounts", name, "token"]) => {
                let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
                let status = json!({"token": format!("token-of-{name}"), "expirationTimestamp": expires.to_string()});
                json_answer(200, &json!({"spec": body["spec"], "status": status}))
            }
            (Method::POST, ["tokenreviews"]) => {
                let known = body["spec"]["token"]
                    .as_str()
                    .and_then(|t| t.strip_prefix("token-of-"));
                let user = known.map(|name| json!({"username": name, "groups": ["g"]}));
                let status =
                    json!({"authenticated": user.is_some(), "user": user.unwrap_or_default()});
                json_answer(
                    201,
                    &json!({"metadata": {}, "spec": body["spec"], "status": status}),
                )
            }
            (Method::POST, ["subjectaccessreviews"]) => {
                let what = &body["spec"]["resourceAttributes"];
                let allowed = body["spec"]["user"] == "reader" && what["verb"] == "get";
                let status = json!({"allowed": allowed});
                json_answer(
                    201,
                    &json!({"metadata": {}, "spec": body["spec"], "status": status}),
                )
            }
            (Method::POST, [plural]) => {
                let mut object = body;
                object["metadata"]["uid"] = format!("uid-{}", self.next_version()).into();
                let name = object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if self.get(plural, namespace, &name).is_some() {
                    return refusal(409);
                }
                self.put(plural, object);
                self.found(plural, namespace, &name)
            }
            (Method::PUT, [plural, name]) => {
                self.put(plural, body);
                self.found(plural, namespace, name)
            }
            (Method::PATCH, [plural, name, ..]) => {
                let Some(mut object) = self.get(plural, namespace, name) else {
                    return refusal(404);
                };
                merge(&mut object, body);
                self.put(plural, object);
                self.found(plural, namespace, name)
            }
            (Method::DELETE, [plural, name]) => {
                self.delete(plural, namespace, name);
                json_answer(200, &json!({"kind": "Status", "status": "Success"}))
            }
            (method, parts) => panic!("{method} {parts:?}"),
        }
    }

    fn found(&self, plural: &str, namespace: &str, name: &str) -> Response<Body> {
        match self.get(plural, namespace, name) {
            Some(object) => json_answer(200, &object),
            None => refusal(404),
        }
    }

    fn list(&self, plural: &str, query: &BTreeMap<String, String>) -> Response<Body> {
        let objects = self.objects.lock();
        let of_kind = objects
            .iter()
            .filter(|(k, _)| k.0 == plural)
            .map(|(_, v)| v);
        let items: Vec<&Value> = of_kind.filter(|o| selected(o, query)).collect();
        let version = self.version.lock().to_string();
        json_answer(
            200,
            &json!({"metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(&self, plural: &str, query: &BTreeMap<String, String>) -> Response<Body> {
        let after: u64 = query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        // What came between list and watch, and what comes from now on.
        let (missed, changes) = {
            let history = self.history.lock();
            (
                history.clone(),
                BroadcastStream::new(self.changes.subscribe()),
            )
        };
        let (plural, query) = (plural.to_owned(), query.clone());
        let all = futures::stream::iter(missed).chain(changes.filter_map(|c| async { c.ok() }));
        let lines = all.filter_map(move |(kind, event)| {
            let version = event["object"]["metadata"]["resourceVersion"].as_str();
            let newer = version
                .and_then(|v| v.parse::<u64>().ok())
                .is_some_and(|v| v > after);
            let wanted = newer && kind == plural && selected(&event["object"], &query);
            let line = wanted.then(|| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            async move { line }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let Some(selector) = query.get("fieldSelector") else {
        return true;
    };
    let (path, wanted) = selector.split_once('=').unwrap();
    let pointer = format!("/{}", path.replace('.', "/"));
    object.pointer(&pointer).and_then(Value::as_str) == Some(wanted)
}

/// Conditions merge by type, everything else as in a merge patch.
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(&key);
        } else if let ("conditions", Value::Array(new)) = (key.as_str(), &value) {
            let list = &mut object[&key];
            if list.is_null() {
                *list = json!([]);
            }
            for condition in new {
                let old = list.as_array_mut().unwrap();
                match old.iter_mut().find(|o| o["type"] == condition["type"]) {
                    Some(old) => merge(old, condition.clone()),
                    None => old.push(condition.clone()),
                }
            }
        } else if let Value::Array(mut list) = value {
            list.retain(|i| i.get("$patch").is_none());
            object[&key] = Value::Array(list);
        } else {
            merge(&mut object[&key], value);
        }
    }
}

fn json_answer(status: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = status.try_into().unwrap();
    response
}

fn refusal(code: u16) -> Response<Body> {
    let reason = if code == 404 {
        "NotFound"
    } else {
        "AlreadyExists"
    };
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason});
    json_answer(code, &status)
}

/// A service of a function.
fn tower_of<F, R>(
    answer: F,
) -> impl tower::Service<
    Request<kube::client::Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = futures::future::BoxFuture<'static, Result<Response<Body>, Infallible>>,
> + Send
where
    F: Fn(Request<kube::client::Body>) -> R + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    tower::service_fn(move |request| {
        let answer = answer(request);
        Box::pin(async move { Ok(answer.await) })
            as futures::future::BoxFuture<'static, Result<Response<Body>, Infallible>>
    })
}
