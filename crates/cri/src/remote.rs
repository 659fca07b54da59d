//! A CRI runtime behind a unix socket (`--container-runtime-endpoint`), seen through the same
//! traits.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;
use crate::{Code, ContainerEvents, Error, ImageService, RuntimeService};

/// The largest answer taken from a runtime, as upstream's kubelet has it.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A runtime at the other end of a unix socket. Connects with the first call and again when the
/// runtime was restarted.
#[derive(Clone, Debug)]
pub struct Remote {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Remote {
    /// A client for `unix:///path/to.sock` or a plain absolute path. Must be called inside a tokio
    /// runtime.
    pub fn new(endpoint: &str) -> Result<Remote, Error> {
        let path = socket_path(endpoint)?;
        // The address is never resolved: the connector goes to the socket whatever it says.
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector_lazy(service_fn(move |_| connect(path.clone())));
        Ok(Remote {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
        })
    }
}

/// The path in an endpoint: a `unix://` URL or an absolute path.
fn socket_path(endpoint: &str) -> Result<PathBuf, Error> {
    let path = Path::new(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    if !path.is_absolute() {
        let message = format!("endpoint {endpoint:?} must be unix:///path or an absolute path");
        return Err(Error::new(Code::InvalidArgument, message));
    }
    Ok(path.to_path_buf())
}

async fn connect(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}

// One method per call: clone the client (a handle on one shared connection), call, translate the
// status. The macros write whole `impl` blocks because `async_trait` must see the methods.
macro_rules! runtime_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl RuntimeService for Remote {
            $(
                async fn $call(&self, request: $request) -> Result<$response, Error> {
                    Ok(self.runtime.clone().$call(request).await?.into_inner())
                }
            )*

            async fn get_container_events(
                &self,
                request: GetEventsRequest,
            ) -> Result<ContainerEvents, Error> {
                let events = self.runtime.clone().get_container_events(request).await?;
                Ok(events.into_inner().map(|event| event.map_err(Error::from)).boxed())
            }
        }
    };
}

macro_rules! image_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl ImageService for Remote {
            $(
                async fn $call(&self, request: $request) -> Result<$response, Error> {
                    Ok(self.images.clone().$call(request).await?.into_inner())
                }
            )*
        }
    };
}

crate::calls::runtime_calls!(runtime_service);
crate::calls::image_calls!(image_service);
