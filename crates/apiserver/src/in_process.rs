//! The way in for components of the same process: the same road, no TLS, no TCP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use access::User;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::authenticate::InProcessUser;
use crate::body::{Body, BoxError, RequestBody};
use crate::road;
use crate::server::Server;

/// How much an upgraded connection holds on the way.
const PIPE_BYTES: usize = 64 * 1024;

/// A transport for one component: requests are its user's. Give it to `kube::Client::new`.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Server>,
    user: Arc<User>,
}

impl Server {
    /// A transport whose requests are this user's. It is authorized like any other.
    pub fn in_process(self: &Arc<Self>, user: User) -> InProcess {
        InProcess {
            server: self.clone(),
            user: Arc::new(user),
        }
    }
}

impl InProcess {
    async fn answer(self, request: Request<RequestBody>) -> Result<Response<Body>, BoxError> {
        if request.headers().contains_key(header::UPGRADE) {
            return self.upgrade(request).await;
        }
        let mut request = request;
        request.extensions_mut().insert(InProcessUser(self.user));
        Ok(road::answer(self.server, request).await)
    }

    /// Upgrades need a real connection to take over: HTTP over a pipe.
    async fn upgrade(self, request: Request<RequestBody>) -> Result<Response<Body>, BoxError> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let this = self.clone();
            async move {
                let body = |b: hyper::body::Incoming| b.map_err(Into::into).boxed_unsync();
                let mut request = request.map(body);
                request.extensions_mut().insert(InProcessUser(this.user));
                Ok::<_, std::convert::Infallible>(road::answer(this.server, request).await)
            }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an in-process upgrade ended");
            }
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = request;
        // HTTP/1.1 speaks of paths, and asks for a host.
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .parse()?;
        *request.uri_mut() = path;
        *request.version_mut() = http::Version::HTTP_11;
        let host = http::HeaderValue::from_static("in-process");
        request.headers_mut().entry(header::HOST).or_insert(host);
        let response = sender.send_request(request).await?;
        Ok(response.map(Body::wrap))
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(self.clone().answer(request))
    }
}
