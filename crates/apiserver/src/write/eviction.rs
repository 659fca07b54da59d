//! The sub-resource `eviction`: a delete that may be refused for the sake of the pod's service. Disruption budgets are
//! not served yet, so nothing refuses.
//!
//! Behaviour: `pkg/registry/core/pod/storage/eviction.go`.

use http::Response;
use machinery::{ApiError, Object};
use serde_json::json;

use super::WriteOptions;
use super::delete::{DeleteOptions, delete_one};
use crate::admit::{self, Operation};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::decode;
use crate::resource::Resource;
use crate::respond;

/// Answers POST on `pods/eviction`.
pub(crate) async fn evict(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let mut eviction = decode::any(call, body).await?.object;
    if eviction.kind() != "Eviction" {
        return Err(ApiError::bad_request(format!(
            "not an Eviction object: {}",
            eviction.kind()
        )));
    }
    decode::check_namespace(call, resource, &mut eviction)?;
    if eviction.name() != call.info.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let operation = Operation::create(call, resource).of_kind("Eviction");
    admit::mutate(&operation, &mut eviction, None)?;
    admit::validate(&operation, &eviction, None)?;
    let wanted = eviction
        .at(&["deleteOptions"])
        .and_then(serde_json::Value::as_object)
        .cloned();
    let mut delete = DeleteOptions::from_object(&Object(wanted.unwrap_or_default()))?;
    delete.dry_run |= options.dry_run;
    delete_one(
        call,
        resource,
        &call.info.namespace,
        &call.info.name,
        &delete,
    )
    .await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(respond::value(201, &call.form, &status))
}
