//! The registry's protocol, as much of it as pulling needs: one session per pull and endpoint.
//!
//! Credentials and what is got for them go to the endpoint that asked for them and to the token service it names, and nowhere
//! else: a redirect to another place is followed without them, and an address in a manifest is never asked at all
//! (CVE-2020-15157).
//!
//! The `oci-client` crate would do the most of this, but it reads manifests and errors into memory however long they are, knows no
//! refresh tokens, and cannot be given connections.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use oci::Reference;
use parking_lot::Mutex;

use super::challenge::{Challenge, token_service};
use super::credentials::Login;
use super::dial::Connector;
use super::failure::{Failure, root_cause, tame};
use super::options::{Endpoint, PullOptions, same_origin};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The most that is read of an answer that is no content.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The machine's certificate authorities.
static SYSTEM_ROOTS: LazyLock<rustls::RootCertStore> = LazyLock::new(|| {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

/// A conversation with one endpoint about one repository.
#[derive(Debug)]
pub(super) struct Session {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    base: Uri,
    /// The repository's address, and what every request to a mirror ends with.
    repository: String,
    suffix: String,
    scope: String,
    login: Login,
    /// What the endpoint has accepted last.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Session {
    pub(super) fn new(
        endpoint: &Endpoint,
        reference: &Reference,
        login: Login,
        options: &PullOptions,
    ) -> Result<Session, Failure> {
        let unusable = || Failure::Remote(format!("unusable registry address {:?}", endpoint.base));
        let base: Uri = endpoint.base.parse().map_err(|_| unusable())?;
        if !matches!(base.scheme_str(), Some("http" | "https")) {
            return Err(unusable());
        }
        let authorization = match &login {
            Login::Bearer(token) => Some(secret(format!("Bearer {token}"))?),
            _ => None,
        };
        let suffix = endpoint.mirror_of.as_ref();
        Ok(Session {
            client: Client::builder(TokioExecutor::new()).build(connector(&base, options)?),
            repository: format!("{}/v2/{}", endpoint.base, reference.repository),
            base,
            suffix: suffix.map(|of| format!("?ns={of}")).unwrap_or_default(),
            scope: format!("repository:{}:pull", reference.repository),
            login,
            authorization: Mutex::new(authorization),
        })
    }

    /// Asks for something of the repository, such as `manifests/latest`.
    pub(super) async fn get(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
    ) -> Result<Response<Incoming>, Failure> {
        let text = format!("{}/{path}{}", self.repository, self.suffix);
        let unusable = |_| Failure::Remote(format!("unusable address {text:?}"));
        let mut url: Uri = text.parse().map_err(unusable)?;
        let (mut may_authorize, mut redirects) = (true, 0);
        loop {
            // Nobody but the endpoint itself is shown what it gave or asked for.
            let at_home = same_origin(&url, &self.base);
            let shown = self.authorization.lock().clone().filter(|_| at_home);
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            headers.extend(shown.map(|value| (AUTHORIZATION, value)));
            let response = self.send(&method, &url, headers, Bytes::new()).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && at_home && may_authorize {
                may_authorize = false;
                if let Some(challenge) = Challenge::of(response.headers()) {
                    self.answer(challenge).await?;
                    continue;
                }
            }
            if status.is_redirection() {
                redirects += 1;
                url = redirected(&url, response.headers())
                    .filter(|_| redirects <= MAX_REDIRECTS)
                    .ok_or_else(|| unexpected(&method, &url, status))?;
                continue;
            }
            return Err(refusal(&method, &url, response).await);
        }
    }

    /// Gets ready for the next request what the endpoint wants to see.
    async fn answer(&self, challenge: Challenge) -> Result<(), Failure> {
        let value = match (challenge, &self.login) {
            (Challenge::Bearer { realm, service }, login) => {
                // A token given to us for the registry has just been refused, and there is nothing to get another one for.
                if matches!(login, Login::Bearer(_)) {
                    return Ok(());
                }
                let token = self.token(&realm, service.as_deref()).await?;
                secret(format!("Bearer {token}"))?
            }
            (Challenge::Basic, Login::Password { username, password }) => {
                basic(username, password)?
            }
            (Challenge::Basic, _) => return Ok(()),
        };
        *self.authorization.lock() = Some(value);
        Ok(())
    }

    /// Gets a token for pulling from the service that the registry names.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, Failure> {
        let realm = token_service(realm, &self.base)?;
        let start = || {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("scope", &self.scope);
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query
        };
        let mut headers = HeaderMap::new();
        let kind = match &self.login {
            Login::Anonymous | Login::Bearer(_) => "anonymous",
            Login::Password { .. } | Login::Refresh(_) => "oauth",
        };
        let (method, url, body) = match &self.login {
            Login::Refresh(refresh) => {
                let mut query = start();
                query.append_pair("grant_type", "refresh_token");
                query.append_pair("client_id", "oxikube");
                query.append_pair("refresh_token", refresh);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, form);
                (Method::POST, realm, Bytes::from(query.finish()))
            }
            login => {
                if let Login::Password { username, password } = login {
                    headers.insert(AUTHORIZATION, basic(username, password)?);
                }
                let separator = if realm.query().is_some() { '&' } else { '?' };
                let text = format!("{realm}{separator}{}", start().finish());
                let url = text
                    .parse()
                    .map_err(|_| Failure::Remote(format!("unusable address {text:?}")))?;
                (Method::GET, url, Bytes::new())
            }
        };
        let failed = |why: String| {
            Failure::Unauthorized(format!(
                "failed to authorize: failed to fetch {kind} token: {why}"
            ))
        };
        let response = self.send(&method, &url, headers, body).await?;
        let status = response.status();
        if status.is_server_error() {
            return Err(unexpected(&method, &url, status));
        }
        if !status.is_success() {
            return Err(failed(status_text(&method, &url, status)));
        }
        let bytes = bounded(response.into_body(), MAX_ANSWER_BYTES).await?;
        let answer: Token = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        token.ok_or_else(|| failed("the token service's answer contains none".into()))
    }

    async fn send(
        &self,
        method: &Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers;
        let agent = concat!("oxikube/", env!("CARGO_PKG_VERSION"));
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(agent));
        match tokio::time::timeout(SILENCE, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::request(method, url, &root_cause(&error))),
            Err(_) => Err(Failure::request(method, url, "no answer in time")),
        }
    }
}

#[derive(Default, serde::Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// An error as registries word it.
#[derive(Default, serde::Deserialize)]
struct Complaints {
    #[serde(default)]
    errors: Vec<Complaint>,
}

#[derive(serde::Deserialize)]
struct Complaint {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn connector(base: &Uri, options: &PullOptions) -> Result<HttpsConnector<Connector>, Failure> {
    let mut roots = match base.scheme_str() {
        Some("https") => SYSTEM_ROOTS.clone(),
        _ => rustls::RootCertStore::empty(),
    };
    roots.add_parsable_certificates(options.certificate_authorities.iter().cloned());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Remote(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = Connector(std::sync::Arc::clone(&options.dialer));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector))
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, Failure> {
    use base64::Engine;
    let text = format!("{username}:{password}");
    secret(format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    ))
}

/// A header that debug output does not show.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let malformed = || Failure::Unauthorized("failed to authorize: malformed token".into());
    let mut value = HeaderValue::try_from(text).map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where an answer sends us: to an address or a path, but never from TLS to none.
fn redirected(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let to: Uri = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{}://{}{location}", from.scheme()?, from.authority()?)
            .parse()
            .ok()?,
        false => location.parse().ok()?,
    };
    let safe = match to.scheme_str()? {
        "https" => true,
        "http" => from.scheme_str() == Some("http"),
        _ => false,
    };
    safe.then_some(to)
}

fn status_text(method: &Method, url: &Uri, status: StatusCode) -> String {
    format!("unexpected status from {method} request to {url}: {status}")
}

fn unexpected(method: &Method, url: &Uri, status: StatusCode) -> Failure {
    Failure::Remote(status_text(method, url, status))
}

/// What an answer that is not a success means.
async fn refusal(method: &Method, url: &Uri, response: Response<Incoming>) -> Failure {
    let status = response.status();
    let body = bounded(response.into_body(), MAX_ANSWER_BYTES)
        .await
        .unwrap_or_default();
    let complaints: Complaints = serde_json::from_slice(&body).unwrap_or_default();
    let said = complaints.errors.first().map(|first| {
        let text = format!("{}: {}", first.code.to_ascii_lowercase(), first.message);
        format!("server message: {}", tame(&text))
    });
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let why = said.unwrap_or_else(|| status_text(method, url, status));
            let hint = "pull access denied, repository does not exist or may require authorization";
            Failure::Unauthorized(format!("{hint}: {why}"))
        }
        _ => {
            let text = status_text(method, url, status);
            Failure::Remote(said.map_or(text.clone(), |said| format!("{text}: {said}")))
        }
    }
}

/// The next bytes of a body.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| Failure::Remote("the registry fell silent".into()))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::Remote(root_cause(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole body that must not be longer than `limit`.
pub(super) async fn bounded(mut body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    let mut whole = bytes::BytesMut::new();
    while let Some(data) = chunk(&mut body).await? {
        if whole.len() + data.len() > limit {
            let text = format!("the registry's answer is longer than {limit} bytes");
            return Err(Failure::Remote(text));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
