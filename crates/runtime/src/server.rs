//! The runtime on a unix socket, for `crictl` and for a kubelet in another process.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use cri::Error;

use crate::Runtime;

/// Serves the CRI on a socket file that only root may use, until `stop` is ready. An old file of
/// that name is replaced.
pub async fn serve(
    runtime: Arc<Runtime>,
    socket: &Path,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::internal(error));
        }
        _ => {}
    }
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).map_err(Error::internal)?;
    }
    let listener = tokio::net::UnixListener::bind(socket).map_err(Error::internal)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::internal)?;
    let served = cri::server::serve(listener, runtime.clone(), runtime, stop).await;
    let _ = std::fs::remove_file(socket);
    served
}
