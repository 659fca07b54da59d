//! Requests that the server sends: to webhooks, aggregated API servers, authenticators, log collectors.
//!
//! Contract: a destination is a URL or a Service; a Service is resolved from the caches for every request, to one of its
//! ready end points, which the server dials as it dials pods for `connect` (the certificate is asked for
//! `<service>.<namespace>.svc`). Connections are kept alive and shared by all requests to the same end under the same
//! credentials; HTTP/2 is spoken where the far end offers it. Redirects are never followed. An answer has a bound and
//! a request a deadline. Errors read as those of Go's client, which is what users of webhooks know.
//!
//! Start with [`Outbound::exchange`] (small bodies, whole answers); [`Outbound::forward`] streams and upgrades.

mod answer;
mod callee;
mod dial;
mod exec;
pub(crate) mod kubeconfig;
mod login;
mod place;
mod proxy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Lookup;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use crate::body::{RequestBody, read_limited};
use crate::server::Identity;

pub(crate) use answer::Answer;
pub(crate) use callee::Callee;
use dial::Dialer;
use kubeconfig::HookUsers;
pub(crate) use login::Login;
use login::Shown;
use place::Candidates;
pub(crate) use place::Place;
use proxy::Proxy;

/// Connections to one end that wait for the next request.
const IDLE_CONNECTIONS: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Ends that are remembered before those that are out of use are dropped.
const ENDS: usize = 256;
/// An HTTP/2 connection with a request on it is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// End points of a service that are tried for one request.
const TRIES: usize = 3;

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// What the host's own certificates sign.
    #[default]
    System,
    /// What these authorities sign: PEM.
    Authorities(Arc<[u8]>),
    /// Anybody.
    Anybody,
}

impl Trust {
    /// The authorities of a `caBundle`; the host's own when it is empty.
    pub(crate) fn bundle(pem: &[u8]) -> Self {
        match pem {
            [] => Self::System,
            pem => Self::Authorities(pem.into()),
        }
    }
}

/// The server's side of mutual TLS. Two are the same when they were made as one.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Identity>);

impl Credentials {
    /// With this certificate and key.
    pub(crate) fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Credentials {}

impl std::hash::Hash for Credentials {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Where requests go, and how both ends know each other.
#[derive(Clone)]
pub(crate) struct Destination {
    /// The far end.
    pub(crate) place: Place,
    /// Whose certificate it must have.
    pub(crate) trust: Trust,
    /// What the server shows of itself in the TLS handshake.
    pub(crate) credentials: Option<Credentials>,
    /// What it shows in requests.
    pub(crate) login: Option<Arc<Login>>,
    /// The name that the far end's certificate must have, if not its own.
    pub(crate) server_name: Option<Arc<str>>,
    /// Through whom it is reached.
    pub(crate) proxy: Option<Arc<Proxy>>,
}

impl Destination {
    /// A place, without anything to show.
    pub(crate) fn new(place: Place, trust: Trust) -> Self {
        Self {
            place,
            trust,
            credentials: None,
            login: None,
            server_name: None,
            proxy: None,
        }
    }

    /// Shows who the server is at this place, if it is anybody there.
    pub(crate) fn show_as(&mut self, users: &HookUsers) {
        let (host, port) = self.place.host_and_port();
        if let Some(shows) = users.at(&host, port) {
            self.credentials.clone_from(&shows.credentials);
            self.login.clone_from(&shows.login);
        }
    }
}

/// How a configuration says where a webhook is.
pub(crate) struct Hook<'a> {
    pub(crate) url: Option<&'a str>,
    /// Namespace, name and port of a service.
    pub(crate) service: Option<(&'a str, &'a str, Option<i32>)>,
    /// What is asked for at the service.
    pub(crate) path: Option<&'a str>,
    /// Whose certificates are believed: PEM, or nothing.
    pub(crate) authorities: &'a [u8],
}

impl Hook<'_> {
    /// The place, and what is asked for there.
    ///
    /// # Errors
    /// There is no such place.
    pub(crate) fn destination(&self) -> Result<(Destination, String), String> {
        let (place, path) = match (self.service, self.url) {
            (Some((namespace, name, port)), _) => {
                let port = port.unwrap_or(443);
                let port = u16::try_from(port).map_err(|_| format!("invalid port {port}"))?;
                let path = self.path.unwrap_or("").to_owned();
                (Place::service(namespace, name, port), path)
            }
            (None, Some(url)) => Place::of_url(url).map_err(|e| e.to_string())?,
            (None, None) => {
                return Err("webhook configuration must have either service or URL".into());
            }
        };
        let path = match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        };
        let trust = Trust::bundle(self.authorities.trim_ascii());
        Ok((Destination::new(place, trust), path))
    }
}

/// A request whose body is at hand.
pub(crate) struct Message {
    pub(crate) method: Method,
    /// Path and query, beginning with `/`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// For everything: connecting, sending, the whole answer.
    pub(crate) timeout: Duration,
    /// A longer answer is an error.
    pub(crate) answer_limit: usize,
}

impl Message {
    /// A POST of JSON with an answer of at most 3 MiB, as upstream's clients of webhooks bound it.
    pub(crate) fn json(path: String, body: Bytes, timeout: Duration) -> Self {
        let json = HeaderValue::from_static("application/json");
        let headers = [(header::CONTENT_TYPE, json.clone()), (header::ACCEPT, json)];
        Self {
            method: Method::POST,
            path,
            headers: headers.into_iter().collect(),
            body,
            timeout,
            answer_limit: 3 << 20,
        }
    }
}

/// Why there is no answer: `Post "https://host/path": cause`.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url:?}: {cause}")]
pub(crate) struct OutboundError {
    method: String,
    url: String,
    /// What it was.
    pub(crate) cause: Cause,
}

/// What can go wrong under way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// A service that is not there, has no such port or no ready end point.
    #[error("{0}")]
    Unresolved(String),
    /// No connection, or one that is not trusted.
    #[error("{0}")]
    Dial(String),
    /// The deadline has passed.
    #[error("context deadline exceeded")]
    Timeout,
    /// The connection broke, or what came over it is no HTTP.
    #[error("{0}")]
    Broken(String),
    /// More of an answer than wanted.
    #[error("http: response body too large")]
    TooLarge,
}

type Pool = Client<Dialer, RequestBody>;

/// What connections are shared by.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    end: End,
    /// Scheme, host and port as the far end knows them.
    origin: Arc<str>,
    trust: Trust,
    credentials: Option<Credentials>,
    server_name: Option<Arc<str>>,
    proxy: Option<Arc<Proxy>>,
    /// HTTP/1.1 only, for upgrades.
    upgrades: bool,
}

/// The far end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// An address.
    Address(SocketAddr),
    /// A name that is looked up when a connection is made.
    Name(Arc<str>, u16),
    /// The same; addresses that a proxy must not be talked into reaching are not dialled.
    Guarded(Arc<str>, u16),
}

struct Kept {
    pool: Pool,
    used: Instant,
}

/// The connections that the server makes, shared by all that send requests.
#[derive(Default)]
pub(crate) struct Outbound {
    pools: Mutex<HashMap<Key, Kept>>,
}

impl Outbound {
    /// Sends a message and gives the whole answer, whatever its status. Of a service with several ready end points one
    /// is picked by chance, and others are tried when it cannot be reached.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn exchange(
        &self,
        lookup: &(dyn Lookup + Sync),
        destination: &Destination,
        message: Message,
    ) -> Result<Answer, OutboundError> {
        let failed = |cause| self.failed(&message.method, destination, &message.path, cause);
        let work = self.exchange_in_time(lookup, destination, &message);
        match tokio::time::timeout(message.timeout, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) => Err(failed(cause)),
            Err(_) => Err(failed(Cause::Timeout)),
        }
    }

    async fn exchange_in_time(
        &self,
        lookup: &(dyn Lookup + Sync),
        destination: &Destination,
        message: &Message,
    ) -> Result<Answer, Cause> {
        let candidates = destination.place.resolve(lookup)?;
        let mut last = None;
        for end in candidates.in_random_order().take(TRIES) {
            let body = Full::new(message.body.clone());
            let mut request = Request::new(body.map_err(|never| match never {}).boxed_unsync());
            *request.method_mut() = message.method.clone();
            *request.headers_mut() = message.headers.clone();
            let sent = self
                .send(destination, &candidates, end, &message.path, request, false)
                .await;
            match sent {
                Ok(response) => return read(response, message.answer_limit).await,
                Err(Cause::Dial(why)) => last = Some(Cause::Dial(why)),
                Err(other) => return Err(other),
            }
        }
        Err(last.unwrap_or_else(|| Cause::Unresolved("no end point".to_owned())))
    }

    /// Passes a request on to `path`, with its own method, headers and body, and gives the answer as it begins; `upgrade`
    /// for a request that asks for one (the far end is then spoken to in HTTP/1.1, and
    /// `hyper::upgrade::on` takes the connection over). Hop-by-hop headers and credentials are the caller's affair;
    /// so is a deadline.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn forward(
        &self,
        lookup: &(dyn Lookup + Sync),
        destination: &Destination,
        path: &str,
        request: Request<RequestBody>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, OutboundError> {
        let method = request.method().clone();
        let failed = |cause| self.failed(&method, destination, path, cause);
        let candidates = destination.place.resolve(lookup).map_err(failed)?;
        let end = candidates.in_random_order().next();
        let end = end.ok_or_else(|| failed(Cause::Unresolved("no end point".to_owned())))?;
        self.send(destination, &candidates, end, path, request, upgrade)
            .await
            .map_err(failed)
    }

    async fn send(
        &self,
        destination: &Destination,
        candidates: &Candidates,
        end: End,
        path: &str,
        mut request: Request<RequestBody>,
        upgrades: bool,
    ) -> Result<Response<Incoming>, Cause> {
        let uri: Result<Uri, _> = format!("{}{path}", candidates.origin).parse();
        *request.uri_mut() = uri.map_err(|error| Cause::Unresolved(error.to_string()))?;
        // What HTTP/2 calls itself is no business of the request.
        *request.version_mut() = http::Version::HTTP_11;
        let shown = match &destination.login {
            Some(login) => login.show().await.map_err(Cause::Broken)?,
            None => Shown::default(),
        };
        if let Some(value) = &shown.authorization {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        let proxy = destination.proxy.clone();
        if candidates.origin.starts_with("http:")
            && let Some(value) = proxy.as_ref().and_then(|proxy| proxy.header())
        {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        let own = destination.credentials.clone();
        let key = Key {
            end,
            origin: candidates.origin.clone(),
            trust: destination.trust.clone(),
            credentials: shown.credentials.clone().or(own),
            server_name: destination.server_name.clone(),
            proxy,
            upgrades,
        };
        let pool = self.pool(key)?;
        let response = pool.request(request).await.map_err(dial::cause)?;
        if let (Some(login), StatusCode::UNAUTHORIZED) = (&destination.login, response.status()) {
            login.refused(&shown);
        }
        Ok(response)
    }

    /// The connections to an end.
    fn pool(&self, key: Key) -> Result<Pool, Cause> {
        let mut pools = self.pools.lock();
        let now = Instant::now();
        if let Some(kept) = pools.get_mut(&key) {
            kept.used = now;
            return Ok(kept.pool.clone());
        }
        let dialer = Dialer::new(&key);
        let dialer = dialer.map_err(Cause::Dial)?;
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(dialer);
        if pools.len() >= ENDS / 4 {
            pools.retain(|_, kept| now.duration_since(kept.used) < IDLE_TIMEOUT);
        }
        if pools.len() >= ENDS {
            let oldest = pools.iter().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| pools.remove(&key));
        }
        let kept = Kept {
            pool: pool.clone(),
            used: now,
        };
        pools.insert(key, kept);
        Ok(pool)
    }

    fn failed(
        &self,
        method: &Method,
        destination: &Destination,
        path: &str,
        cause: Cause,
    ) -> OutboundError {
        let (first, rest) = method.as_str().split_at(1);
        OutboundError {
            method: format!("{first}{}", rest.to_lowercase()),
            url: format!("{}{path}", destination.place.origin()),
            cause,
        }
    }
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Answer, Cause> {
    let (parts, body) = response.into_parts();
    let body = body.map_err(Into::into).boxed_unsync();
    match read_limited(body, limit).await {
        Ok(Some(body)) => Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }),
        Ok(None) => Err(Cause::TooLarge),
        Err(_) => Err(Cause::Broken("unexpected EOF".to_owned())),
    }
}
