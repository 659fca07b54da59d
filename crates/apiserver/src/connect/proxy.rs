//! HTTP to pods, services and nodes.

use http::Response;
use machinery::ApiError;

use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;

pub(crate) async fn proxy(
    _call: &Call,
    _resource: &Resource,
    _body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    Err(ApiError::path_not_found())
}
