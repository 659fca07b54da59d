//! Reading `componentstatuses`: every component is asked now.

use futures::future::join_all;
use http::Response;
use machinery::{ApiError, Object};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::components::{Health, ask_store};
use crate::read::options::ListOptions;
use crate::resource::Resource;
use crate::respond;
use crate::shape::Shaper;

/// The store's name: there is one, however many members it has.
const STORE: &str = "etcd-0";

/// Answers with one component.
pub(crate) async fn get(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    let name = call.info.name.as_str();
    let health = match call.server.components().iter().find(|c| c.name == name) {
        Some(component) => component.ask().await,
        None if name == STORE => ask_store(&call.server).await,
        None => {
            return Err(ApiError::not_found("", resource.names().singular, name));
        }
    };
    let shown = shaper.one(status(name, health));
    Ok(respond::value(200, &shaper.form, &shown))
}

/// Answers with all of them, by name; they are asked side by side.
pub(crate) async fn list(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    let selection = ListOptions::parse(call, resource)?.selection;
    let asked = call.server.components().iter();
    let asked = asked.map(async |component| status(component.name, component.ask().await));
    let (mut all, store) = futures::join!(join_all(asked), ask_store(&call.server));
    all.push(status(STORE, store));
    all.retain(|object| selection.chooses(object));
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let shown = shaper.list(json!({}), all);
    Ok(respond::value(200, &shaper.form, &shown))
}

fn status(name: &str, health: Health) -> Object {
    let mut condition = json!({"type": "Healthy", "status": health.status});
    for (key, text) in [("message", health.message), ("error", health.error)] {
        if !text.is_empty() {
            condition[key] = text.into();
        }
    }
    let tree = json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
        "conditions": [condition],
    });
    match tree {
        Value::Object(map) => Object(map),
        _ => Object::default(),
    }
}
