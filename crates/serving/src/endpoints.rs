//! Health, metrics, `/statusz` and `/flagz` of a component, over HTTPS or plain HTTP.
//!
//! Paths of health are open to everybody, as upstream's `--authorization-always-allow-paths`; the others need a right on
//! the path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use machinery::about::{self, About, Flags};
use machinery::health::{self, Asked, Records};
use parking_lot::Mutex;
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

/// What a component says of itself at `/statusz` and `/flagz`.
pub struct Told {
    /// Its name.
    pub component: &'static str,
    /// Its command line.
    pub flags: Flags,
}

/// What is served.
pub struct Endpoints {
    /// Health, by `healthz`, `livez` and `readyz`.
    pub checks: Vec<Check>,
    /// Everything else; a page at `/healthz` takes the place of the checks.
    pub pages: Vec<Page>,
    /// With it there are `/statusz`, `/flagz` and `/metrics/slis`.
    pub told: Option<Told>,
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
        Ok(Arc::new(self.served()).accept(listener, Some(acceptor)))
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
        Ok(Arc::new(self.served()).accept(listener, None))
    }

    fn served(self) -> Served {
        Served {
            paths: self.paths(),
            endpoints: self,
            records: Mutex::default(),
        }
    }

    /// Every path that is served.
    fn paths(&self) -> Vec<String> {
        let checks = self.checks.iter().flat_map(|check| {
            let path = |kind: &&str| format!("/{kind}/{}", check.name);
            check.paths.iter().map(path)
        });
        let pages = self.pages.iter().map(|page| page.path.to_owned());
        let mut paths: Vec<String> = checks.chain(pages).collect();
        if self.told.is_some() {
            paths.extend(["/flagz", "/metrics/slis"].map(str::to_owned));
        }
        paths
    }
}

/// What is served, and what has come of it.
struct Served {
    endpoints: Endpoints,
    paths: Vec<String>,
    records: Mutex<Records>,
}

impl Served {
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
        if let Some(page) = self.endpoints.pages.iter().find(|page| page.path == path) {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                return plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
            }
            if !page.open
                && let Err(refusal) = self.admit(caller, request).await
            {
                return refusal;
            }
            let (status, text) = (page.text)();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            return typed(status, page.media_type, text);
        }
        if let Some(told) = &self.endpoints.told {
            let page = about::Page::at(path);
            if page.is_some() || path == "/metrics/slis" {
                if let Err(refusal) = self.admit(caller, request).await {
                    return refusal;
                }
                return match page {
                    Some(page) => told.answer(page, &self.paths, request.headers()),
                    None => figures(self.records.lock().render()),
                };
            }
        }
        let (kind, name) = match path[1..].split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (&path[1..], None),
        };
        match kind {
            "healthz" | "livez" | "readyz" => {
                self.health(kind, name, request.uri().query().unwrap_or_default())
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn admit(
        &self,
        caller: Option<Caller>,
        request: &Request<Incoming>,
    ) -> Result<(), Response<Full<Bytes>>> {
        match &self.endpoints.access {
            Some(access) => admit(access, caller, request).await,
            None => Ok(()),
        }
    }

    fn health(&self, kind: &str, name: Option<&str>, query: &str) -> Response<Full<Bytes>> {
        let mut checks = self.endpoints.checks.iter();
        if let Some(name) = name {
            let check = checks.find(|check| check.name == name && check.paths.contains(&kind));
            return match check.map(|check| (check.holds)()) {
                Some(true) => plain(StatusCode::OK, "ok"),
                Some(false) => {
                    let why = format!("internal server error: {name} does not hold\n");
                    plain(StatusCode::INTERNAL_SERVER_ERROR, why)
                }
                None => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            };
        }
        let mut asked = Asked::default();
        for part in query.split('&') {
            match part.split_once('=').unwrap_or((part, "")) {
                ("verbose", _) => asked.verbose = true,
                ("exclude", name) => asked.exclude.push(name.to_owned()),
                _ => {}
            }
        }
        let outcome = |check: &Check| match (asked.excludes(check.name), check) {
            (true, _) => None,
            (false, check) if (check.holds)() => Some(Ok(())),
            (false, check) => Some(Err(format!("{} does not hold", check.name))),
        };
        let outcomes: Vec<_> = checks
            .filter(|check| check.paths.contains(&kind))
            .map(|check| (check.name, outcome(check)))
            .collect();
        if outcomes.is_empty() {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        self.records.lock().note(kind, &outcomes);
        match health::page(kind, &asked, &outcomes) {
            (true, text) => plain(StatusCode::OK, text),
            (false, text) => plain(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }
}

impl Told {
    /// One of the two pages, for who serves them on a road of its own.
    pub fn answer(
        &self,
        page: about::Page,
        paths: &[String],
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let started = linux::own::Process::read().map_or(0.0, |process| process.started_seconds);
        let now = Timestamp::now();
        let about = About {
            component: self.component,
            started: Timestamp::from_second(started as i64).unwrap_or(now),
            now,
            paths,
            flags: &self.flags,
        };
        let by_hand = text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("curl"));
        let accept = text(header::ACCEPT).unwrap_or_default();
        let answer = page.answer(&about, accept, by_hand);
        let mut response = Response::new(Full::new(Bytes::from(answer.body)));
        *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or_default();
        let own = [
            (header::CONTENT_TYPE, Some(answer.media_type)),
            (header::WARNING, answer.warning),
        ];
        for (name, value) in own {
            if let Some(value) = value.and_then(|text| text.parse().ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// A page for Prometheus.
fn figures(text: String) -> Response<Full<Bytes>> {
    let media_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    typed(StatusCode::OK, media_type, text)
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
    let mut response = typed(status, "text/plain; charset=utf-8", text.into());
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn typed(status: StatusCode, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if media_type == "application/json" {
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
