//! Health and metrics of a component, over HTTPS or plain HTTP.
//!
//! Paths of health are open to everybody, as upstream's `--authorization-always-allow-paths`; the others need a right on
//! the path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{Access, Caller, Certificate, Error, Right, caller_of};

/// How long a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that must be true of a healthy component.
pub struct Check {
    /// Upstream's name.
    pub name: &'static str,
    /// Which of `healthz`, `livez`, `readyz` ask it.
    pub paths: &'static [&'static str],
    /// Whether it is true.
    pub holds: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A page beside health.
pub struct Page {
    /// Where.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Who may read it need not be asked.
    pub open: bool,
    /// Status and text.
    pub text: Box<dyn Fn() -> (u16, String) + Send + Sync>,
}

/// What is served.
pub struct Endpoints {
    /// Health, by `healthz`, `livez` and `readyz`.
    pub checks: Vec<Check>,
    /// Everything else; a page at `/healthz` takes the place of the checks.
    pub pages: Vec<Page>,
    /// Who may read what is not open; `None`: anybody.
    pub access: Option<Access>,
}

impl Endpoints {
    /// Listens with TLS, and gives the task that serves.
    ///
    /// # Errors
    /// The address is taken, or the authority of clients cannot be used.
    pub async fn serve_tls(
        self,
        address: SocketAddr,
        certificate: &Arc<Certificate>,
        client_authority: &str,
    ) -> Result<impl Future<Output = Infallible> + Send + use<>, Error> {
        let tls = crate::tls(certificate, client_authority)?;
        let listener = listen(address).await?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        Ok(Arc::new(self).accept(listener, Some(acceptor)))
    }

    /// Listens without TLS, and gives the task that serves; for loopback addresses and pages that are open.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn serve_plain(
        self,
        address: SocketAddr,
    ) -> Result<impl Future<Output = Infallible> + Send + use<>, Error> {
        let listener = listen(address).await?;
        Ok(Arc::new(self).accept(listener, None))
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
    ) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connection(stream, tls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors, most likely: others need time to end.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            return self.requests(stream, None).await;
        };
        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
            let caller = caller_of(stream.get_ref().1);
            self.requests(stream, caller).await;
        }
    }

    async fn requests(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        caller: Option<Caller>,
    ) {
        let service = service_fn(|request: Request<Incoming>| {
            let (own, caller) = (self.clone(), caller.clone());
            async move { Ok::<_, Infallible>(own.answer(caller, &request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn answer(
        &self,
        caller: Option<Caller>,
        request: &Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
        }
        if let Some(page) = self.pages.iter().find(|page| page.path == path) {
            if !page.open
                && let Some(access) = &self.access
                && let Err(refusal) = admit(access, caller, request).await
            {
                return refusal;
            }
            let (status, text) = (page.text)();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            return typed(status, page.media_type, text);
        }
        let mut parts = path.trim_matches('/').split('/');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
            (kind @ ("healthz" | "livez" | "readyz"), name, None) => {
                self.health(kind, name, request.uri().query().unwrap_or_default())
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn health(&self, kind: &str, name: Option<&str>, query: &str) -> Response<Full<Bytes>> {
        let mut checks: Vec<&Check> = self
            .checks
            .iter()
            .filter(|c| c.paths.contains(&kind))
            .collect();
        if let Some(name) = name {
            checks.retain(|check| check.name == name);
            if checks.is_empty() && name != "ping" {
                return plain(StatusCode::NOT_FOUND, "404 page not found\n");
            }
        }
        let mut lines = String::from("[+]ping ok\n");
        let mut fine = true;
        for check in &checks {
            match (check.holds)() {
                true => lines.push_str(&format!("[+]{} ok\n", check.name)),
                false => {
                    fine = false;
                    lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                }
            }
        }
        match (
            fine,
            query
                .split('&')
                .any(|q| q.split('=').next() == Some("verbose")),
        ) {
            (true, false) => plain(StatusCode::OK, "ok"),
            (true, true) => plain(StatusCode::OK, format!("{lines}{kind} check passed\n")),
            (false, _) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{lines}{kind} check failed\n"),
            ),
        }
    }
}

async fn admit(
    access: &Access,
    caller: Option<Caller>,
    request: &Request<Incoming>,
) -> Result<(), Response<Full<Bytes>>> {
    let known = access.authenticate(caller, request.headers()).await;
    let caller = known.map_err(|_| plain(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
    let path = request.uri().path().to_owned();
    let name = caller.name.clone();
    let right = Right::Path {
        verb: "get",
        path: path.clone(),
    };
    match access.allows(&caller, right).await {
        Ok(true) => Ok(()),
        _ => {
            let why = format!("forbidden: User {name:?} cannot get path {path:?}");
            Err(plain(StatusCode::FORBIDDEN, why))
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen { address, source })
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.into())
}

fn typed(status: StatusCode, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}
