//! Who calls, and whether they may: certificates and tokens, and a question to the API server.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long an answer of the API server holds: yes, and no.
pub const HOLDS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(30));
/// How long a known token stays known.
pub const TOKEN_HOLDS: Duration = Duration::from_secs(120);
/// How many answers are kept.
const MAX_KEPT: usize = 1024;
/// Who may do anything.
const MASTERS: &str = "system:masters";

/// Somebody whose identity is certain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Unique among all users.
    pub name: String,
    /// Tells apart users of one name over time.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The caller whom the certificate of a connection names.
pub fn caller_of(connection: &rustls::ServerConnection) -> Option<Caller> {
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

/// What somebody may or may not do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// On a sub-resource of a node.
    Node {
        /// What.
        verb: &'static str,
        /// Which node.
        name: String,
        /// Which part of it.
        subresource: &'static str,
    },
    /// On a path of the component itself.
    Path {
        /// What.
        verb: &'static str,
        /// Where.
        path: String,
    },
}

/// Why a caller is turned away.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody knows who calls.
    Unauthorized,
    /// The API server could not be asked.
    Unknown,
}

/// Asks the API server, and remembers for a while what it said.
pub struct Access {
    client: Option<Client>,
    tokens: Kept<String, Option<Caller>>,
    verdicts: Kept<(Caller, Right), bool>,
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
    /// Asks by this client; without any, only `system:masters` may do anything.
    pub fn new(client: Option<Client>) -> Self {
        Self {
            client,
            tokens: Kept::new(),
            verdicts: Kept::new(),
        }
    }

    /// Who calls: by certificate, else by token.
    ///
    /// # Errors
    /// Nobody knows.
    pub async fn authenticate(
        &self,
        certificate: Option<Caller>,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        if let Some(caller) = certificate {
            return Ok(caller);
        }
        let header = headers.get(AUTHORIZATION);
        let token = header.and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
        let Some(token) = token.map(str::trim).filter(|t| !t.is_empty()) else {
            return Err(Refusal::Unauthorized);
        };
        if let Some(known) = self.tokens.get(&token.to_owned()) {
            return known.ok_or(Refusal::Unauthorized);
        }
        let caller = self.review(token).await.map_err(|error| {
            tracing::warn!(%error, "cannot review a token");
            Refusal::Unauthorized
        })?;
        let holds = match caller {
            Some(_) => TOKEN_HOLDS,
            None => HOLDS.1,
        };
        self.tokens.put(token.to_owned(), caller.clone(), holds);
        caller.ok_or(Refusal::Unauthorized)
    }

    async fn review(&self, token: &str) -> Result<Option<Caller>, kube::Error> {
        let Some(client) = &self.client else {
            return Ok(None);
        };
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(client.clone());
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

    /// Whether the caller has this right.
    ///
    /// # Errors
    /// The API server could not be asked.
    pub async fn allows(&self, caller: &Caller, right: Right) -> Result<bool, Refusal> {
        if caller.groups.iter().any(|g| g == MASTERS) {
            return Ok(true);
        }
        let Some(client) = &self.client else {
            return Ok(false);
        };
        let key = (caller.clone(), right);
        if let Some(known) = self.verdicts.get(&key) {
            return Ok(known);
        }
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        let (parameters, question) = (PostParams::default(), question(caller, &key.1));
        let status = match api.create(&parameters, &question).await {
            Ok(review) => review.status,
            Err(error) => {
                tracing::warn!(%error, user = caller.name, "cannot ask what a caller may do");
                return Err(Refusal::Unknown);
            }
        };
        let allowed = status.is_some_and(|s| s.allowed);
        let holds = if allowed { HOLDS.0 } else { HOLDS.1 };
        self.verdicts.put(key, allowed, holds);
        Ok(allowed)
    }
}

fn question(caller: &Caller, right: &Right) -> SubjectAccessReview {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(caller.name.clone()),
        uid: Some(caller.uid.clone()).filter(|u| !u.is_empty()),
        groups: Some(caller.groups.clone()),
        extra: Some(caller.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match right {
        Right::Node {
            verb,
            name,
            subresource,
        } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some((*subresource).to_owned()),
                name: Some(name.clone()),
                ..ResourceAttributes::default()
            });
        }
        Right::Path { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                verb: Some((*verb).to_owned()),
                path: Some(path.clone()),
            });
        }
    }
    SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    }
}
