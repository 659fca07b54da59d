//! Service-account tokens: JSON web tokens that the server signs, verifies and publishes the keys of.
//!
//! A token is bound to the UID of its service account and, if asked, of a pod, node or secret; it dies with them.
//! Behaviour: `pkg/serviceaccount`, `pkg/registry/core/serviceaccount/storage/token.go`. Start with [`Tokens`].
//!
//! Signing draws on the system's random source inside `ring` (a signature needs it); no decision depends on it.

pub mod bootstrap;
mod claims;
mod keys;
pub mod legacy;
mod request;
mod verify;

pub use claims::{Bindings, Claims, Ref};
pub use keys::{KeyError, PublicKey, SigningKey};
pub use request::{Draft, RequestContext};
pub use verify::{Authenticated, LegacyUse, TokenError};

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Shared;

/// Seconds for which the token of a pod is asked for when nothing else is said; such tokens live on for
/// [`EXTENDED_SECONDS`] and say so when used.
pub const WARN_AFTER_SECONDS: i64 = 3607;
/// A year: how long a token of [`WARN_AFTER_SECONDS`] really lives.
pub const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// The issuer of service-account tokens: signs with one key, accepts several.
pub struct Tokens {
    issuer: String,
    /// Issuers whose tokens are good as well, until they end.
    former: Vec<String>,
    audiences: Vec<String>,
    /// None: somebody elsewhere signs.
    signing: Option<SigningKey>,
    /// Whoever signs elsewhere may have others at any time.
    accepted: Shared<Vec<PublicKey>>,
    lifetimes: Lifetimes,
}

/// How long tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// No token is issued for longer; 0: no bound but that of the API.
    pub most_seconds: i64,
    /// Tokens of pods that are asked for [`WARN_AFTER_SECONDS`] live on.
    pub extends: bool,
    /// For so long, then.
    pub extended_seconds: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            most_seconds: 0,
            extends: true,
            extended_seconds: EXTENDED_SECONDS,
        }
    }
}

impl Tokens {
    /// An issuer under this URL. `audiences` are those of the API server itself; empty means the issuer's URL.
    /// `accepted` are keys beside the signing key whose tokens are still good.
    pub fn new(
        issuer: &str,
        audiences: Vec<String>,
        signing: SigningKey,
        accepted: Vec<PublicKey>,
    ) -> Self {
        let audiences = if audiences.is_empty() {
            vec![issuer.to_owned()]
        } else {
            audiences
        };
        let mut keys = vec![signing.public().clone()];
        keys.extend(accepted.into_iter().filter(|key| key != signing.public()));
        Self {
            issuer: issuer.to_owned(),
            former: Vec::new(),
            audiences,
            signing: Some(signing),
            accepted: Shared::new(keys),
            lifetimes: Lifetimes::default(),
        }
    }

    /// An issuer whose tokens somebody elsewhere signs, by one of these keys.
    pub fn signed_elsewhere(issuer: &str, audiences: Vec<String>, keys: Vec<PublicKey>) -> Self {
        let audiences = if audiences.is_empty() {
            vec![issuer.to_owned()]
        } else {
            audiences
        };
        Self {
            issuer: issuer.to_owned(),
            former: Vec::new(),
            audiences,
            signing: None,
            accepted: Shared::new(keys),
            lifetimes: Lifetimes::default(),
        }
    }

    /// With other bounds on how long tokens live.
    #[must_use]
    pub fn with_lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// From now on tokens of these keys are good, and of no others.
    pub fn accept(&self, keys: Vec<PublicKey>) {
        *self.accepted.write() = keys;
    }

    /// Whether a key of this name is known, and published.
    pub fn publishes(&self, id: &str) -> Option<bool> {
        let keys = self.accepted.read();
        let mut named = keys.iter().filter(|key| key.id() == id).peekable();
        named.peek()?;
        Some(named.all(|key| !key.is_hidden()))
    }

    /// With issuers of before, whose tokens are good until they end. Unless the server has audiences of its own, they are
    /// audiences, too.
    #[must_use]
    pub fn with_former_issuers(mut self, former: Vec<String>) -> Self {
        if self.audiences == [self.issuer.clone()] {
            self.audiences.extend(former.iter().cloned());
        }
        self.former = former;
        self
    }

    /// All issuers, the one of new tokens first.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        let all = [&self.issuer].into_iter().chain(&self.former);
        all.map(String::as_str)
    }

    /// The audiences of the API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The document at `/.well-known/openid-configuration`; `jwks_url` is where [`Tokens::jwks`] is served.
    pub fn openid_configuration(&self, jwks_url: &str) -> Value {
        let keys = self.accepted.read();
        let shown = keys.iter().filter(|key| !key.is_hidden());
        let algorithms: BTreeSet<&str> = shown.map(PublicKey::algorithm).collect();
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_url,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// The document at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let keys = self.accepted.read();
        let shown = keys.iter().filter(|key| !key.is_hidden());
        let keys: Vec<Value> = shown.map(PublicKey::jwk).collect();
        json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests;
