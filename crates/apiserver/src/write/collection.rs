//! Delete of a collection: every object that the selectors choose, each as if it were deleted alone.

use http::Response;
use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::delete::{DeleteOptions, Deleted, delete_one};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::negotiate::Form;
use crate::read::list::{choose, shown};
use crate::read::options::ListOptions;
use crate::resource::Resource;
use crate::respond;

/// Answers DELETE on a collection.
pub(crate) async fn delete_collection(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let custom = resource.kind.may_be_outdated();
    Form::negotiate(&call.headers, &call.query, custom)?;
    let options = DeleteOptions::read(call, body).await?;
    options.check_collection()?;
    options.warn(call, resource);
    let list = ListOptions::parse(call, resource)?;
    let selection = &list.selection;
    let storage = resource.storage("delete")?;
    let found = choose(call, storage, &list).await?;
    let snapshot = &found.snapshot;
    let mut chosen: Vec<(String, String)> = Vec::with_capacity(snapshot.entries.len());
    if selection.shown.is_everything() {
        let names = snapshot.entries.iter();
        chosen.extend(names.map(|e| (e.namespace().to_owned(), e.name().to_owned())));
    } else {
        let objects = shown(call, resource, selection, &snapshot.entries).await?;
        let names = objects.iter();
        chosen.extend(names.map(|o| (o.namespace().to_owned(), o.name().to_owned())));
    }
    let mut items = Vec::with_capacity(chosen.len());
    for (namespace, name) in &chosen {
        match delete_one(call, resource, namespace, name, &options).await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => {
                items.push(item(resource, object))
            }
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let names = resource.names();
    let list = json!({
        "kind": format!("{}List", names.kind), "apiVersion": names.api_version(),
        "metadata": found.metadata(selection), "items": items,
    });
    Ok(respond::value(200, &call.form, &list))
}

fn item(resource: &Resource, mut object: Object) -> Value {
    // Those of custom kinds carry their type.
    if !resource.kind.may_be_outdated() {
        object.0.remove("kind");
        object.0.remove("apiVersion");
    }
    object.into_value()
}
