//! Kinds that are asked and never kept.
//!
//! A review goes through the road like a create: it is decoded, defaulted and validated by its kind; then its status is
//! filled. The statuses of components are read, and found out anew each time.

mod access_review;
pub(crate) mod component_status;
pub(crate) mod token;
mod who;

use http::Response;
use machinery::{ApiError, Object};

use crate::admit::{self, Operation};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::decode;
use crate::negotiate::{Form, SUPPORTED, Shape};
use crate::resource::Resource;
use crate::write::{WriteOptions, object_answer};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Fills the status of a review.
async fn fill(
    call: &Call,
    (group, plural): (&str, &str),
    object: &mut Object,
) -> Result<(), ApiError> {
    match (group, plural) {
        (AUTHENTICATION, "tokenreviews") => token::review(call, object).await,
        (AUTHENTICATION, "selfsubjectreviews") => who::am_i(call, object),
        (AUTHORIZATION, "subjectaccessreviews") => access_review::subject(call, object).await,
        (AUTHORIZATION, "localsubjectaccessreviews") => access_review::local(call, object).await,
        (AUTHORIZATION, "selfsubjectaccessreviews") => access_review::own(call, object).await,
        (AUTHORIZATION, "selfsubjectrulesreviews") => access_review::rules(call, object),
        _ => Err(ApiError::path_not_found()),
    }
}

/// Answers POST on a review.
pub(crate) async fn answer(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    WriteOptions::parse(call)?;
    // Reviews have no metadata to speak of, and no columns.
    if Form::negotiate(&call.headers, &call.query, false)?.shape != Shape::Object {
        return Err(ApiError::not_acceptable(SUPPORTED));
    }
    let mut object = decode::object(call, resource, body).await?;
    decode::check_namespace(call, resource, &mut object)?;
    let operation = Operation::create(call, resource);
    admit::mutate(&operation, &mut object, None).await?;
    object.0.remove("status");
    let errors = resource.kind.validate_create(call.context(), &object);
    let errors = errors.map_err(|error| decode::wrong_shape(resource, &error))?;
    let names = resource.names();
    if !errors.is_empty() {
        // As upstream: the reviews of access do not say what they are.
        let kind = match names.group {
            AUTHORIZATION => "",
            _ => names.kind,
        };
        return Err(ApiError::invalid(names.group, kind, "", &errors));
    }
    fill(call, (names.group, names.plural), &mut object).await?;
    object_answer(call, resource, 201, object)
}
