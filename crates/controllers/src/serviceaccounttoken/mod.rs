//! Secrets for tokens of service accounts are filled, and go when their account is gone.
//!
//! Invariant: only secrets of type `kubernetes.io/service-account-token` are touched; they are deleted only after the API
//! has said that their account (by name and UID) is gone, and filled only as the API has them. The key is not here: a
//! [`SignToken`] holds it, and without one no secret is filled. Upstream:
//! `pkg/controller/serviceaccount/tokens_controller.go`.

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::{
    Action, Answer, Caches, Change, Key, Look, Plan, Question, Reconciler, Resource, Target, Wake,
};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::Value;

const TOKEN: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Index of token secrets by `namespace/account`.
const BY_ACCOUNT: &str = "account";

/// What a secret holds beside the token.
const NAMESPACE: &str = "namespace";
const TOKEN_KEY: &str = "token";
const ROOT: &str = "ca.crt";

/// Somebody with the key of tokens.
pub trait SignToken: Send + Sync {
    /// The token that a secret (the last argument) of this namespace holds for an account: name and UID.
    fn token(&self, namespace: &str, account: (&str, &str), secret: &str) -> Option<String>;
}

/// The controller of token secrets.
#[derive(Clone, Default)]
pub struct TokensController {
    /// Who signs tokens.
    pub signer: Option<Arc<dyn SignToken>>,
    /// Certificates that the API server is checked with, PEM; empty when nobody knows them.
    pub root_certificates: Arc<str>,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The token secret.
    pub secret: Arc<Secret>,
    /// Its account, as the cache knows it.
    pub account: Option<Arc<ServiceAccount>>,
    /// The UID that the API gives for the account, empty when there is none.
    pub live_uid: Option<String>,
    /// Secrets are filled here.
    pub fills: bool,
    /// The certificates that it holds are not those of now.
    pub outdated: bool,
    /// The secret as the API has it, once it has been asked.
    pub live: Option<Value>,
    /// What the secret lacks and should hold, as the API has it.
    pub missing: Vec<(&'static str, String)>,
}

impl Reconciler for TokensController {
    type Observed = Observed;

    const NAME: &'static str = "serviceaccount-token-controller";
    const IDENTITY: &'static str = "system:kube-controller-manager";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Secret>(|change, _| {
            let token = account_of(change.latest()).is_some() && !change.is_deletion();
            token
                .then(|| Key::of(change.latest()))
                .into_iter()
                .collect()
        })
        .on::<ServiceAccount>(keys_of_account)
        .index::<Secret>(BY_ACCOUNT, |secret| {
            let account = account_of(secret).map(|key| key.to_string());
            account.into_iter().collect()
        })
        .trim::<Secret>(|secret| {
            secret.string_data = None;
            if secret.type_.as_deref() == Some(TOKEN) {
                // Whether there is something is all that is looked at here; of the certificates, whether they are the same.
                for (key, value) in secret.data.iter_mut().flatten() {
                    match key.as_str() {
                        ROOT if !value.0.is_empty() => value.0 = mark(&value.0),
                        _ => value.0.truncate(1),
                    }
                }
            } else if !crate::bootstraptokens::is_token(secret) {
                secret.data = None;
            }
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let secret = look.caches.of::<Secret>().get(look.key)?;
        let account = account_target(&secret)?;
        let answer = look.answers.get(&Question::Get(account.clone()));
        let cached = look.caches.of::<ServiceAccount>().get(&account.key);
        let live_uid = answer.map(|answer| match answer {
            Answer::Present(live) => text(&live["metadata"]["uid"]).to_owned(),
            _ => String::new(),
        });
        let live = match look.answers.get(&Question::Get(target(&secret))) {
            Some(Answer::Present(live)) => Some(live.clone()),
            _ => None,
        };
        let cached_uid = cached.as_ref().and_then(|a| a.metadata.uid.clone());
        let uid = live_uid.clone().or(cached_uid).unwrap_or_default();
        let missing = match &live {
            Some(live) => self.missing(live, &account.key.name, &uid),
            None => Vec::new(),
        };
        let held = secret.data.as_ref().and_then(|data| data.get(ROOT));
        let held = held.map(|value| value.0.as_slice());
        let root = self.root_certificates.as_bytes();
        Some(Observed {
            outdated: !root.is_empty() && held != Some(&mark(root)),
            account: cached,
            live_uid,
            fills: self.signer.is_some(),
            live,
            missing,
            secret,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let wanted = annotation(&o.secret, ACCOUNT_UID).unwrap_or_default();
        let fits = |uid: &str| !uid.is_empty() && (wanted.is_empty() || wanted == uid);
        let cached = o.account.as_ref().and_then(|a| a.metadata.uid.as_deref());
        if cached.is_some_and(fits) || o.live_uid.as_deref().is_some_and(fits) {
            return fill(o);
        }
        match (&o.live_uid, account_target(&o.secret)) {
            (None, Some(account)) => Plan {
                actions: vec![Action::Confirm(Question::Get(account))],
                because: "its service account is missing, the API is asked".to_owned(),
                ..Plan::default()
            },
            _ => Plan {
                actions: vec![Action::delete(o.secret.as_ref(), None)],
                because: "its service account is gone".to_owned(),
                ..Plan::default()
            },
        }
    }
}

impl TokensController {
    /// What a secret lacks, encoded as it holds it.
    fn missing(&self, live: &Value, account: &str, uid: &str) -> Vec<(&'static str, String)> {
        let lacks = |key: &str| text(&live["data"][key]).is_empty();
        let namespace = text(&live["metadata"]["namespace"]);
        let mut out = Vec::new();
        let root = STANDARD.encode(&*self.root_certificates);
        if !root.is_empty() && text(&live["data"][ROOT]) != root {
            out.push((ROOT, root));
        }
        if lacks(NAMESPACE) {
            out.push((NAMESPACE, STANDARD.encode(namespace)));
        }
        let name = text(&live["metadata"]["name"]);
        let token = self.signer.as_ref().filter(|_| lacks(TOKEN_KEY));
        let token = token.and_then(|signer| signer.token(namespace, (account, uid), name));
        out.extend(token.map(|token| (TOKEN_KEY, STANDARD.encode(token))));
        out
    }
}

/// What stands for certificates where only their change matters.
fn mark(certificates: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    hasher.write(certificates);
    hasher.finish().to_be_bytes().to_vec()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn target(secret: &Secret) -> Target {
    Target {
        resource: Resource::of::<Secret>(),
        key: Key::of(secret),
    }
}

/// A secret of an account that is there gets what it lacks.
fn fill(o: &Observed) -> Plan {
    let lacks = |key: &str| {
        let data = o.secret.data.as_ref().and_then(|data| data.get(key));
        data.is_none_or(|value| value.0.is_empty())
    };
    let incomplete = lacks(TOKEN_KEY) || lacks(NAMESPACE);
    if !o.fills || !(incomplete || o.outdated) {
        return Plan::idle("its service account exists");
    }
    let because = match incomplete {
        true => "it lacks its token",
        false => "the API server's certificates are others now",
    };
    let Some(live) = &o.live else {
        return Plan {
            actions: vec![Action::Confirm(Question::Get(target(&o.secret)))],
            because: format!("{because}, the API is asked for the rest"),
            ..Plan::default()
        };
    };
    let cached = o.secret.metadata.resource_version.as_deref();
    if o.missing.is_empty() || cached != live["metadata"]["resourceVersion"].as_str() {
        return Plan::idle("the API has a newer one");
    }
    let mut object = live.clone();
    for (key, value) in &o.missing {
        object["data"][*key] = value.clone().into();
    }
    let uid = o.account.as_ref().and_then(|a| a.metadata.uid.clone());
    let uid = o.live_uid.clone().or(uid).unwrap_or_default();
    object["metadata"]["annotations"][ACCOUNT_UID] = uid.into();
    Plan {
        actions: vec![Action::Update {
            target: target(&o.secret),
            object,
            subresource: None,
            report: None,
        }],
        because: because.to_owned(),
        ..Plan::default()
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The account of a token secret; none for other secrets.
fn account_of(secret: &Secret) -> Option<Key> {
    if secret.type_.as_deref() != Some(TOKEN) {
        return None;
    }
    let name = annotation(secret, ACCOUNT_NAME).filter(|name| !name.is_empty())?;
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    Some(Key::new(namespace, name))
}

fn account_target(secret: &Secret) -> Option<Target> {
    Some(Target {
        resource: Resource::of::<ServiceAccount>(),
        key: account_of(secret)?,
    })
}

/// An account that goes, or comes back as another one, concerns its tokens.
fn keys_of_account(change: &Change<ServiceAccount>, caches: &Caches) -> Vec<Key> {
    let uid = |account: Option<&Arc<ServiceAccount>>| account.and_then(|a| a.metadata.uid.clone());
    if change.old.is_none() || uid(change.old.as_ref()) == uid(change.new.as_ref()) {
        return Vec::new();
    }
    let account = Key::of(change.latest()).to_string();
    let secrets = caches.of::<Secret>().indexed(BY_ACCOUNT, &account);
    secrets.iter().map(|s| Key::of(s.as_ref())).collect()
}
