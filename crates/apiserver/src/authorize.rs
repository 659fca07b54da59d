//! Whether the request may be made: the authorizers of `access` over views that the watch caches feed.

use access::Attributes;
use machinery::ApiError;

use crate::server::Server;

/// Lets a request pass or refuses it.
///
/// # Errors
/// 403.
pub(crate) fn authorize(server: &Server, attributes: &Attributes) -> Result<(), ApiError> {
    let verdict = server.authorizer().authorize(attributes);
    if verdict.is_allowed() {
        return Ok(());
    }
    Err(attributes.forbidden(&verdict.reason))
}
