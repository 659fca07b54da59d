//! Kinds that are asked and never kept: one table from resource to answer.
//!
//! A review goes through the road like a create: it is decoded, defaulted and validated by its kind; then the function
//! in the table fills its status.

mod access_review;
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

type Answer = fn(&Call, &mut Object) -> Result<(), ApiError>;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

static ANSWERS: &[(&str, &str, Answer)] = &[
    (AUTHENTICATION, "tokenreviews", token::review),
    (AUTHENTICATION, "selfsubjectreviews", who::am_i),
    (
        AUTHORIZATION,
        "subjectaccessreviews",
        access_review::subject,
    ),
    (
        AUTHORIZATION,
        "localsubjectaccessreviews",
        access_review::local,
    ),
    (
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        access_review::own,
    ),
    (
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        access_review::rules,
    ),
];

/// Whether objects of a resource are not kept.
pub(crate) fn is_virtual(resource: &Resource) -> bool {
    !resource.kind.verbs().contains(&api::Verb::Get)
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
    admit::mutate(&operation, &mut object, None)?;
    object.0.remove("status");
    let errors = resource.kind.validate_create(&call.context(), &object);
    let errors = errors.map_err(|error| decode::wrong_shape(resource, &error))?;
    let names = resource.names();
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            names.group,
            names.kind,
            object.name(),
            &errors,
        ));
    }
    let place = (names.group, names.plural);
    let found = ANSWERS
        .iter()
        .find(|(group, plural, _)| (*group, *plural) == place);
    let (_, _, fill) = found.ok_or_else(ApiError::path_not_found)?;
    fill(call, &mut object)?;
    object_answer(call, resource, 201, object)
}
