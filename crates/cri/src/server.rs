//! Any implementation of the two traits, served on a unix socket as gRPC.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::UnixListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::v1::image_service_server::{ImageService as GrpcImages, ImageServiceServer};
use crate::v1::runtime_service_server::{RuntimeService as GrpcRuntime, RuntimeServiceServer};
use crate::v1::*;
use crate::{Error, ImageService, RuntimeService};

/// Serves both services on `listener` until `stop` is ready. Who may connect is decided by the
/// modes of the socket and of its directory: the caller makes them.
pub async fn serve(
    listener: UnixListener,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let connections = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    Server::builder()
        .add_service(RuntimeServiceServer::new(RuntimeAdapter(runtime)))
        .add_service(ImageServiceServer::new(ImageAdapter(images)))
        .serve_with_incoming_shutdown(connections, stop)
        .await
        .map_err(Error::internal)
}

struct RuntimeAdapter(Arc<dyn RuntimeService>);

struct ImageAdapter(Arc<dyn ImageService>);

// One method per call: unwrap the request, call the trait, translate the error. The macros write
// whole `impl` blocks because `async_trait` must see the methods.
macro_rules! runtime_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl GrpcRuntime for RuntimeAdapter {
            $(
                async fn $call(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    Ok(Response::new(self.0.$call(request.into_inner()).await?))
                }
            )*

            type GetContainerEventsStream =
                BoxStream<'static, Result<ContainerEventResponse, Status>>;

            async fn get_container_events(
                &self,
                request: Request<GetEventsRequest>,
            ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
                let events = self.0.get_container_events(request.into_inner()).await?;
                Ok(Response::new(events.map(|event| event.map_err(Status::from)).boxed()))
            }

            async fn checkpoint_container(
                &self,
                _: Request<CheckpointContainerRequest>,
            ) -> Result<Response<CheckpointContainerResponse>, Status> {
                Err(unimplemented("CheckpointContainer"))
            }

            async fn list_metric_descriptors(
                &self,
                _: Request<ListMetricDescriptorsRequest>,
            ) -> Result<Response<ListMetricDescriptorsResponse>, Status> {
                Err(unimplemented("ListMetricDescriptors"))
            }

            async fn list_pod_sandbox_metrics(
                &self,
                _: Request<ListPodSandboxMetricsRequest>,
            ) -> Result<Response<ListPodSandboxMetricsResponse>, Status> {
                Err(unimplemented("ListPodSandboxMetrics"))
            }
        }
    };
}

macro_rules! image_service {
    ($($call:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl GrpcImages for ImageAdapter {
            $(
                async fn $call(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    Ok(Response::new(self.0.$call(request.into_inner()).await?))
                }
            )*
        }
    };
}

crate::calls::runtime_calls!(runtime_service);
crate::calls::image_calls!(image_service);

/// The answer of gRPC to a method that a server does not have.
fn unimplemented(method: &str) -> Status {
    Status::unimplemented(format!("method {method} not implemented"))
}
