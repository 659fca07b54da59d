//! Kinds that are asked and never kept: the reviews.

pub(crate) mod token;

use http::Response;
use machinery::ApiError;

use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;

/// Whether a resource is answered here.
pub(crate) fn is_virtual(resource: &Resource) -> bool {
    !resource.kind.verbs().contains(&api::Verb::Get)
}

/// Answers POST on a review.
pub(crate) async fn answer(
    _call: &Call,
    _resource: &Resource,
    _body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    Err(ApiError::path_not_found())
}
