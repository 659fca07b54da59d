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
pub use request::RequestContext;
pub use verify::{Authenticated, LegacyUse, TokenError};

use std::collections::BTreeSet;

use serde_json::{Value, json};

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
    signing: SigningKey,
    accepted: Vec<PublicKey>,
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
            signing,
            accepted: keys,
        }
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
        let keys = self.accepted.iter().map(PublicKey::algorithm);
        let algorithms: BTreeSet<&str> = keys.collect();
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
        let keys: Vec<Value> = self.accepted.iter().map(PublicKey::jwk).collect();
        json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests;
