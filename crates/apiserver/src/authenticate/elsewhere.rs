//! Those who know users elsewhere: issuers of tokens, whose keys are fetched and kept, and a webhook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use access::User;
use access::authentication::{
    Anonymous, ClaimSource, Configuration, Discovery, Issuer, Jwt, Key, read_keys, review,
};
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::file_watch;
use crate::kept::Kept;
use crate::measures::reloads::{self, File};
use crate::outbound::{Callee, Destination, Login, Message, Place, Trust, kubeconfig};
use crate::policy::TokenWebhook;
use crate::server::Server;

/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// An issuer that could not be asked is asked again after so long; one that has no such key as well.
const PAUSE: Duration = Duration::from_secs(1);
const LARGEST_ANSWER: usize = 1 << 20;
/// Issuers of claims that are remembered for each issuer of tokens.
const MOST_OTHERS: usize = 16;
/// Answers of the webhook that are kept at most.
const MOST_ANSWERS: usize = 4096;

/// The configuration as it is at this moment.
pub(crate) struct Elsewhere {
    issuers: Vec<Arc<Keys>>,
    anonymous: Option<Anonymous>,
}

impl Elsewhere {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let keys = |issuer: &Issuer| Arc::new(Keys::new(issuer.clone()));
        Self {
            issuers: configuration.jwt.iter().map(keys).collect(),
            anonymous: configuration.anonymous.clone(),
        }
    }

    /// The issuer of this URL.
    pub(super) fn issuer(&self, url: &str) -> Option<Arc<Keys>> {
        let mut all = self.issuers.iter();
        all.find(|keys| keys.issuer.url == url).cloned()
    }

    /// What is said of those who show nothing, if anything is.
    pub(super) fn anonymous(&self) -> Option<&Anonymous> {
        self.anonymous.as_ref()
    }
}

/// Follows the file of a configuration; one that cannot be used changes nothing.
pub(crate) fn follow(server: &Arc<Server>, path: PathBuf, before: String) {
    let weak: Weak<Server> = Arc::downgrade(server);
    let reloads = &server.metrics().measures.reloads;
    reloads.first(File::Authentication, reloads::hash(&before));
    file_watch::follow(path, before, server.shutdown_token(), move |text| {
        let Some(server) = weak.upgrade() else { return };
        let own: Vec<String> = server.tokens().issuers().map(str::to_owned).collect();
        let reloads = &server.metrics().measures.reloads;
        match Configuration::parse(text, &own) {
            Ok(configuration) => {
                reloads.again(File::Authentication, Some(reloads::hash(text)));
                server.replace_elsewhere(Elsewhere::new(&configuration));
                tracing::info!("reloaded authentication config");
            }
            Err(error) => {
                reloads.again(File::Authentication, None);
                tracing::error!(error, "failed to load authentication configuration");
            }
        }
    });
}

/// An issuer, and what is known of its keys.
pub(super) struct Keys {
    issuer: Issuer,
    known: tokio::sync::Mutex<KnownKeys>,
    /// Issuers of claims that its tokens do not hold themselves, by URL.
    others: Mutex<BTreeMap<String, Arc<Keys>>>,
}

#[derive(Default)]
struct KnownKeys {
    url: Option<String>,
    keys: Arc<[Key]>,
    asked: Option<Instant>,
}

impl Keys {
    fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            known: tokio::sync::Mutex::default(),
            others: Mutex::default(),
        }
    }

    /// The user of a token of this issuer.
    pub(super) async fn user(
        &self,
        server: &Server,
        token: &Jwt<'_>,
        now: Timestamp,
    ) -> Result<User, String> {
        let keys = self.keys(server, token).await?;
        let verified = self.issuer.verify(token, &keys, now);
        verified.map_err(|why| format!("oidc: verify token: {why}"))?;
        let expand = |why: String| format!("oidc: could not expand distributed claims: {why}");
        let Some((claim, source)) = self.issuer.distributed(&token.claims).map_err(expand)? else {
            return self.issuer.user_of(&token.claims);
        };
        let found = self.resolve(server, claim, &source, now).await;
        let mut claims = token.claims.clone();
        claims.insert(claim.to_owned(), found.map_err(expand)?);
        self.issuer.user_of(&claims)
    }

    /// A claim from where the token says that it is: what is found there must be signed by an issuer of its own.
    async fn resolve(
        &self,
        server: &Server,
        claim: &str,
        source: &ClaimSource,
        now: Timestamp,
    ) -> Result<Value, String> {
        let url = &source.endpoint;
        let fetched = self.fetch_as(server, url, &source.access_token).await;
        let text =
            fetched.map_err(|why| format!("while getting distributed claim {claim:?}: {why}"))?;
        let text = String::from_utf8_lossy(&text);
        let token = Jwt::parse(text.trim()).ok_or_else(|| {
            format!("getting untrusted issuer from endpoint {url} failed for claim {claim:?}: malformed token")
        })?;
        let other = self.other(token.issuer());
        let keys = other.keys(server, &token).await.map_err(|why| {
            let issuer = token.issuer();
            format!("verifying untrusted issuer {issuer} failed: {why}")
        })?;
        let verified = other.issuer.verify(&token, &keys, now);
        verified.map_err(|why| format!("verify distributed claim token: {why}"))?;
        token.claims.get(claim).cloned().ok_or_else(|| {
            format!(
                "jwt returned by distributed claim endpoint {url:?} did not contain claim: {claim}"
            )
        })
    }

    /// An issuer of claims.
    fn other(&self, url: &str) -> Arc<Self> {
        let mut others = self.others.lock();
        if !others.contains_key(url) && others.len() >= MOST_OTHERS {
            others.pop_first();
        }
        let new = || Arc::new(Self::new(self.issuer.beside(url)));
        others.entry(url.to_owned()).or_insert_with(new).clone()
    }

    /// The issuer's keys; when none of them can be the token's they are fetched anew.
    async fn keys(&self, server: &Server, token: &Jwt<'_>) -> Result<Arc<[Key]>, String> {
        let mut known = self.known.lock().await;
        if token.is_of(&known.keys) {
            return Ok(known.keys.clone());
        }
        if known.asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return match known.url {
                Some(_) => Ok(known.keys.clone()),
                None => Err("oidc: authenticator not initialized".to_owned()),
            };
        }
        known.asked = Some(Instant::now());
        let url = match known.url.clone() {
            Some(url) => url,
            None => {
                let fetched = self.fetch(server, &self.issuer.discovery()).await;
                let found = fetched.and_then(|text| Discovery::read(&text, &self.issuer.url));
                found.map_err(|error| self.not_ready(&error))?.keys_url
            }
        };
        let text = self.fetch(server, &url).await;
        let keys = text.and_then(|text| read_keys(&text));
        known.keys = keys
            .map_err(|error| format!("oidc: verify token: fetching keys {error}"))?
            .into();
        known.url = Some(url);
        Ok(known.keys.clone())
    }

    fn not_ready(&self, error: &str) -> String {
        let url = &self.issuer.url;
        tracing::error!(url, error, "oidc authenticator: initializing plugin");
        "oidc: authenticator not initialized".to_owned()
    }

    async fn fetch(&self, server: &Server, url: &str) -> Result<Bytes, String> {
        self.fetch_as(server, url, "").await
    }

    async fn fetch_as(&self, server: &Server, url: &str, token: &str) -> Result<Bytes, String> {
        if !url.starts_with("https://") {
            return Err(format!("{url:?} is no https URL"));
        }
        let (place, path) = Place::of_url(url).map_err(|e| e.to_string())?;
        let trust = Trust::bundle(self.issuer.authorities.as_bytes());
        let message = Message {
            method: Method::GET,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: PATIENCE,
            answer_limit: LARGEST_ANSWER,
        };
        let mut destination = Destination::new(place, trust);
        if !token.is_empty() {
            destination.login = Some(Arc::new(Login::Token(token.into())));
        }
        let answer = server.outbound().exchange(server, &destination, message);
        let answer = answer.await.map_err(|e| e.to_string())?;
        match answer.status.as_u16() {
            200 => Ok(answer.body),
            code => Err(format!("{url} answers with status {code}")),
        }
    }
}

type Answer = Option<(User, Vec<String>)>;

/// A reviewer of tokens.
pub(crate) struct Webhook {
    settings: TokenWebhook,
    callee: Callee,
    answers: Mutex<Kept<[u8; 32], Answer>>,
}

impl Webhook {
    /// As the operator described it.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub(crate) fn new(settings: &TokenWebhook) -> Result<Self, String> {
        let (destination, path) = kubeconfig::load(Path::new(&settings.kubeconfig))?;
        Ok(Self {
            settings: settings.clone(),
            callee: Callee {
                destination,
                path,
                timeout: PATIENCE,
                first_pause: Callee::USUAL_PAUSE,
            },
            answers: Mutex::new(Kept::new(MOST_ANSWERS)),
        })
    }

    /// Whose a token is; none when the reviewer does not know it either.
    pub(super) async fn user(
        &self,
        server: &Server,
        token: &str,
        wanted: &[String],
        own: &[String],
    ) -> Result<Answer, String> {
        let mut key = Sha256::new();
        key.update(token);
        for audience in wanted {
            key.update([0]);
            key.update(audience);
        }
        // The cache does not know tokens, only their digests.
        let key: [u8; 32] = key.finalize().into();
        if let Some(known) = self.answers.lock().get(&key) {
            return Ok(known);
        }
        let question = review::question(&self.settings.version, token, wanted).to_string();
        let body = self.callee.ask(server, &Bytes::from(question)).await?;
        let body: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let answer = review::answer(&body, wanted, own)?;
        if !self.settings.ttl.is_zero() {
            let mut answers = self.answers.lock();
            answers.put(key, answer.clone(), self.settings.ttl);
        }
        Ok(answer)
    }
}
