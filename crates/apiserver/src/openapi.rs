//! OpenAPI documents, made from the schemas of the kinds when somebody asks.

use http::Response;
use machinery::ApiError;

use crate::body::Body;
use crate::call::Call;
use crate::respond;

/// Answers a path below `/openapi`.
pub(crate) fn answer(_call: &Call, _rest: &[&str]) -> Result<Response<Body>, ApiError> {
    Ok(respond::text(404, "404 page not found\n"))
}
