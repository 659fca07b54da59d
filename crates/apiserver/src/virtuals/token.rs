//! The sub-resource `token` of service accounts.

use http::Response;
use machinery::ApiError;

use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;

/// Answers POST on `serviceaccounts/token`.
pub(crate) async fn issue(
    _call: &Call,
    _resource: &Resource,
    _body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    Err(ApiError::path_not_found())
}
