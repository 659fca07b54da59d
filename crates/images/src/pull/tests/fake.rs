//! A server that answers whatever a test wants and notes what it was shown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use demo_images::Built;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    pub(super) body: String,
}

pub(super) type Answer = Response<Full<Bytes>>;
type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

/// The server; it ends with the test's runtime.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(super) async fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        Fake::listen(None, Arc::new(handler)).await
    }

    /// The same over TLS.
    pub(super) async fn start_tls(
        config: rustls::ServerConfig,
        handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Fake::listen(Some(acceptor), Arc::new(handler)).await
    }

    async fn listen(tls: Option<tokio_rustls::TlsAcceptor>, handler: Arc<Handler>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let notes = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, notes, tls) = (Arc::clone(&handler), Arc::clone(&notes), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, handler, notes).await,
                        Some(tls) => {
                            // A client that does not trust us hangs up here.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler, notes).await;
                            }
                        }
                    }
                });
            }
        });
        Fake { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<Handler>,
    notes: Arc<Mutex<Vec<Seen>>>,
) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (handler, notes) = (Arc::clone(&handler), Arc::clone(&notes));
        async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            let authorization = head.headers.get("authorization");
            let seen = Seen {
                method: head.method.to_string(),
                path: head.uri.to_string(),
                authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
                body: String::from_utf8_lossy(&body).into_owned(),
            };
            notes.lock().push(seen.clone());
            Ok::<_, Infallible>(handler(&seen))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// What an honest registry answers that has one image under every name.
pub(super) fn honest(image: &Built, path: &str) -> Answer {
    let path = path.split('?').next().unwrap();
    if path.contains("/manifests/") {
        let (kind, bytes) = image.manifest();
        return answer(200, &[("content-type", kind)], bytes.to_vec());
    }
    let blob = image.blobs().find(|(digest, _)| path.ends_with(digest));
    blob.map_or_else(
        || answer(404, &[], ""),
        |(_, bytes)| answer(200, &[], bytes.to_vec()),
    )
}
