//! Who calls, and whether they may: certificates and tokens, and a question to the API server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Body, Error, text};
use crate::config::ServerConfig;

/// How long an answer of the API server holds: yes, and no.
const HOLDS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(30));
/// How many answers are kept.
const MAX_KEPT: usize = 1024;
/// Who may do anything.
const MASTERS: &str = "system:masters";

/// The TLS configuration of the server: a client may show a certificate, and then it has to be good.
pub(super) fn tls(config: &ServerConfig) -> Result<rustls::ServerConfig, Error> {
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, Error> {
        let all = CertificateDer::pem_slice_iter(pem.as_bytes());
        all.collect::<Result<_, _>>().map_err(Error::Pem)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&config.client_ca)? {
        roots.add(certificate).map_err(Error::Tls)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(Error::ClientAuthority)?;
    let key = PrivateKeyDer::from_pem_slice(config.key.as_bytes()).map_err(Error::Pem)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.certificate)?, key)
        .map_err(Error::Tls)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Somebody whose identity is certain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

/// The caller whom the certificate of a connection names.
pub(super) fn caller_of(connection: &rustls::ServerConnection) -> Option<Caller> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    Some(Caller {
        name,
        groups: groups.map(str::to_owned).collect(),
        ..Caller::default()
    })
}

/// See the module.
pub(super) struct Access {
    client: Client,
    node_name: String,
    tokens: Kept<String, Option<Caller>>,
    verdicts: Kept<(Caller, &'static str, &'static str), bool>,
}

/// Answers that hold for a while.
struct Kept<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Kept<K, V> {
    fn new() -> Kept<K, V> {
        Kept(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock();
        let (until, value) = kept.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, holds: Duration) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            let now = Instant::now();
            kept.retain(|_, (until, _)| *until > now);
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(key, (Instant::now() + holds, value));
    }
}

impl Access {
    pub(super) fn new(client: Client, node_name: String) -> Access {
        Access {
            client,
            node_name,
            tokens: Kept::new(),
            verdicts: Kept::new(),
        }
    }

    /// Who calls: by certificate, else by token.
    pub(super) async fn authenticate(
        &self,
        certificate: Option<Caller>,
        request: &Request<Incoming>,
    ) -> Result<Caller, Response<Body>> {
        if let Some(caller) = certificate {
            return Ok(caller);
        }
        let header = request.headers().get(AUTHORIZATION);
        let token = header.and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
        let refused = || text(StatusCode::UNAUTHORIZED, "Unauthorized");
        let Some(token) = token.map(str::trim).filter(|t| !t.is_empty()) else {
            return Err(refused());
        };
        if let Some(known) = self.tokens.get(&token.to_owned()) {
            return known.ok_or_else(refused);
        }
        let caller = self.review(token).await.map_err(|error| {
            tracing::warn!(%error, "cannot review a token");
            refused()
        })?;
        let holds = if caller.is_some() {
            Duration::from_secs(120)
        } else {
            HOLDS.1
        };
        self.tokens.put(token.to_owned(), caller.clone(), holds);
        caller.ok_or_else(refused)
    }

    async fn review(&self, token: &str) -> Result<Option<Caller>, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status;
        let status = status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        Ok(status.user.map(|user| Caller {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default().into_iter().collect(),
        }))
    }

    /// Whether the caller may do that.
    pub(super) async fn authorize(
        &self,
        caller: &Caller,
        method: &Method,
        path: &str,
    ) -> Result<(), Response<Body>> {
        if caller.groups.iter().any(|g| g == MASTERS) {
            return Ok(());
        }
        let verb = verb_of(method);
        for resource in resources_of(path) {
            match self.allowed(caller, verb, resource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let message = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={resource})",
                        caller.name
                    );
                    tracing::warn!(%error, message);
                    return Err(text(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let subresources = resources_of(path).join(",");
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])",
            caller.name
        );
        Err(text(StatusCode::FORBIDDEN, message))
    }

    async fn allowed(
        &self,
        caller: &Caller,
        verb: &'static str,
        resource: &'static str,
    ) -> Result<bool, kube::Error> {
        let key = (caller.clone(), verb, resource);
        if let Some(known) = self.verdicts.get(&key) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.name.clone()),
                uid: Some(caller.uid.clone()).filter(|u| !u.is_empty()),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(resource.to_owned()),
                    name: Some(self.node_name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status;
        let allowed = status.is_some_and(|s| s.allowed);
        let holds = if allowed { HOLDS.0 } else { HOLDS.1 };
        self.verdicts.put(key, allowed, holds);
        Ok(allowed)
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The sub-resources of the node of which one has to be allowed, the finest first.
fn resources_of(path: &str) -> &'static [&'static str] {
    let first = path.split('/').find(|p| !p.is_empty()).unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}
