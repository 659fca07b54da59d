//! Token secrets of service accounts that are gone go as well.
//!
//! Invariant: only secrets of type `kubernetes.io/service-account-token` are touched, and only after the API has said
//! that their account (by name and UID) is gone. Tokens themselves are not made here: they come from the
//! `TokenRequest` API. Upstream: the deleting half of `pkg/controller/serviceaccount/tokens_controller.go`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{
    Action, Answer, Caches, Change, Key, Look, Plan, Question, Reconciler, Resource, Target, Wake,
};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

const TOKEN: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Index of token secrets by `namespace/account`.
const BY_ACCOUNT: &str = "account";

/// The controller of token secrets.
pub struct TokensController;

/// All that a decision may depend on.
pub struct Observed {
    /// The token secret.
    pub secret: Arc<Secret>,
    /// Its account, as the cache knows it.
    pub account: Option<Arc<ServiceAccount>>,
    /// The UID that the API gives for the account, empty when there is none.
    pub live_uid: Option<String>,
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
            if !crate::bootstraptokens::is_token(secret) {
                secret.data = None;
            }
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let secret = look.caches.of::<Secret>().get(look.key)?;
        let account = account_target(&secret)?;
        let answer = look.answers.get(&Question::Get(account.clone()));
        Some(Observed {
            account: look.caches.of::<ServiceAccount>().get(&account.key),
            live_uid: answer.map(|answer| match answer {
                Answer::Present(live) => live["metadata"]["uid"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                Answer::Absent | Answer::Items(_) => String::new(),
            }),
            secret,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let wanted = annotation(&o.secret, ACCOUNT_UID).unwrap_or_default();
        let fits = |uid: &str| !uid.is_empty() && (wanted.is_empty() || wanted == uid);
        let cached = o.account.as_ref().and_then(|a| a.metadata.uid.as_deref());
        if cached.is_some_and(fits) || o.live_uid.as_deref().is_some_and(fits) {
            return Plan::idle("its service account exists");
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
