//! log, exec, attach, port-forward.

use api::Subresource;
use http::Response;
use machinery::ApiError;

use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;

pub(crate) async fn log(_call: &Call, _resource: &Resource) -> Result<Response<Body>, ApiError> {
    Err(ApiError::path_not_found())
}

pub(crate) async fn stream(
    _call: &Call,
    _resource: &Resource,
    _subresource: Subresource,
    _body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    Err(ApiError::path_not_found())
}
