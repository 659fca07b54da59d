//! Token in, user out.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use machinery::Object;
use serde::Deserialize;

use super::{Claims, PublicKey, Ref, SigningKey, Tokens, legacy};
use crate::quote::quote_all;
use crate::{Lookup, User, user};

/// Clocks may differ by so many seconds; a deleted object's tokens are good for as long.
const LEEWAY_SECONDS: i64 = 60;

/// Whom a token belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Authenticated {
    /// The service account, with the token's bindings as extra.
    pub user: User,
    /// The audiences asked for that the token is good for.
    pub audiences: Vec<String>,
    /// The token is older than its holder asked for: to be noted in the audit log.
    pub stale: bool,
    /// It is one that a secret holds.
    pub legacy: Option<LegacyUse>,
}

/// The use of a token that a secret holds.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyUse {
    /// The secret.
    pub secret: Arc<Object>,
    /// Nobody asked for it: the account lists it.
    pub made_by_itself: bool,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this issuer: another authenticator may know it.
    #[error("not a token of this issuer")]
    Foreign,
    /// A token of this issuer that is no good. The text never contains the token.
    #[error("{0}")]
    Invalid(String),
    /// One that a secret holds, and that has been marked as no good because nobody used it.
    #[error("{why}")]
    Withdrawn {
        /// What its holder may do.
        why: String,
        /// Nobody asked for it: the account lists it.
        made_by_itself: bool,
    },
}

pub(super) fn invalid(why: impl Into<String>) -> TokenError {
    TokenError::Invalid(why.into())
}

/// Who has issued a token, whatever else it says.
#[derive(Deserialize)]
struct Issued {
    iss: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl Tokens {
    /// Signs claims under this issuer; `None` when the system gives no random numbers, or somebody elsewhere signs.
    pub fn sign(&self, mut claims: Claims) -> Option<String> {
        claims.iss.clone_from(&self.issuer);
        encode(self.signing.as_ref()?, &claims)
    }

    /// The user of a token. `wanted` are the audiences the token must be for (one of them); empty: the API server's.
    /// `lookup` must know the newest objects: a token may be minutes younger or seconds older than what a cache holds.
    ///
    /// # Errors
    /// The token is not of this issuer, forged, out of its time, for others, or what it is bound to is gone.
    pub fn verify(
        &self,
        token: &str,
        now: Timestamp,
        wanted: &[String],
        lookup: &dyn Lookup,
    ) -> Result<Authenticated, TokenError> {
        let payload = self.checked_payload(token)?;
        let parse = |_| TokenError::Foreign;
        let issued: Issued = serde_json::from_slice(&payload).map_err(parse)?;
        if issued.iss == legacy::ISSUER {
            let good = |a: &&String| wanted.is_empty() || wanted.contains(a);
            let audiences: Vec<String> = self.audiences.iter().filter(good).cloned().collect();
            if audiences.is_empty() {
                return Err(not_for(&self.audiences, wanted));
            }
            return legacy::user(token, &payload, audiences, lookup);
        }
        let claims: Claims = serde_json::from_slice(&payload).map_err(parse)?;
        let wanted = if wanted.is_empty() {
            &self.audiences
        } else {
            wanted
        };
        let good_for = match claims.aud.names() {
            [] => &self.audiences,
            names => names,
        };
        let audiences: Vec<String> = wanted
            .iter()
            .filter(|a| good_for.contains(a))
            .cloned()
            .collect();
        if audiences.is_empty() {
            return Err(not_for(good_for, wanted));
        }
        check_times(&claims, now.as_second())?;
        check_bindings(&claims, now.as_second(), lookup)?;
        let stale = claims
            .kubernetes
            .warnafter
            .is_some_and(|at| now.as_second() > at);
        Ok(Authenticated {
            user: user_of(&claims),
            audiences,
            stale,
            legacy: None,
        })
    }

    /// The key that a token of this issuer names, when it is not known.
    pub fn unknown_key(&self, token: &str) -> Option<String> {
        let mut parts = token.split('.');
        let mut part = || URL_SAFE_NO_PAD.decode(parts.next()?).ok();
        let (header, payload) = (part()?, part()?);
        let issued: Issued = serde_json::from_slice(&payload).ok()?;
        let header: Header = serde_json::from_slice(&header).ok()?;
        let own = issued.iss == legacy::ISSUER || self.issuers().any(|one| one == issued.iss);
        let open = own && !header.kid.is_empty() && self.publishes(&header.kid).is_none();
        open.then_some(header.kid)
    }

    /// What the token says, once the signature has been found good.
    fn checked_payload(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Foreign)
        };
        let payload = decode(payload)?;
        let issued: Issued = serde_json::from_slice(&payload).map_err(|_| TokenError::Foreign)?;
        if issued.iss != legacy::ISSUER && !self.issuers().any(|own| own == issued.iss) {
            return Err(TokenError::Foreign);
        }
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Foreign)?;
        let signature = decode(signature)?;
        let accepted = self.accepted.read();
        let mut keys = accepted
            .iter()
            .filter(|k| header.kid.is_empty() || k.id() == header.kid)
            .peekable();
        if keys.peek().is_none() {
            return Err(invalid("invalid signature, no keys found"));
        }
        // The algorithm is fixed by the key, never chosen by the token.
        let good = |k: &PublicKey| {
            k.algorithm() == header.alg && k.verifies(signed.as_bytes(), &signature)
        };
        keys.any(good)
            .then_some(payload)
            .ok_or_else(|| invalid("invalid signature"))
    }
}

/// Claims under a signature; none when the system gives no random numbers.
pub(super) fn encode(key: &SigningKey, claims: &impl serde::Serialize) -> Option<String> {
    let public = key.public();
    let header = serde_json::json!({"alg": public.algorithm(), "kid": public.id()});
    let payload = serde_json::to_vec(claims).expect("claims encode");
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(token)
}

fn not_for(good_for: &[String], wanted: &[String]) -> TokenError {
    let (has, wants) = (quote_all(good_for), quote_all(wanted));
    invalid(format!(
        "token audiences {has} is invalid for the target audiences {wants}"
    ))
}

fn check_times(claims: &Claims, now: i64) -> Result<(), TokenError> {
    let after = |at: Option<i64>| at.is_some_and(|at| at > now + LEEWAY_SECONDS);
    if after(claims.nbf) {
        Err(invalid("service account token is not valid yet"))
    } else if claims.exp.is_some_and(|at| at < now - LEEWAY_SECONDS) {
        Err(invalid("service account token has expired"))
    } else if after(claims.iat) {
        Err(invalid("service account token is issued in the future"))
    } else {
        Ok(())
    }
}

fn check_bindings(claims: &Claims, now: i64, lookup: &dyn Lookup) -> Result<(), TokenError> {
    let bindings = &claims.kubernetes;
    let (namespace, account) = (bindings.namespace.as_str(), &bindings.serviceaccount);
    if claims.sub != user::service_account_name(namespace, &account.name) {
        return Err(invalid(
            "service account token claims could not be validated",
        ));
    }
    let found = lookup
        .get("", "serviceaccounts", namespace, &account.name)
        .ok_or_else(|| invalid(format!("serviceaccounts \"{}\" not found", account.name)))?;
    if found.uid() != account.uid {
        let (is, says) = (found.uid(), &account.uid);
        return Err(invalid(format!(
            "service account UID ({is}) does not match claim ({says})"
        )));
    }
    if is_gone(&found, now) {
        let name = &account.name;
        return Err(invalid(format!(
            "service account {namespace}/{name} has been deleted"
        )));
    }
    let bound = |what: &str, reference: &Option<Ref>, resource: &str, namespace: &str| {
        let Some(reference) = reference else {
            return Ok(());
        };
        let found = lookup.get("", resource, namespace, &reference.name);
        match found {
            Some(found) if found.uid() != reference.uid => Err(invalid(format!(
                "{} UID ({}) does not match service account {} ref claim ({})",
                what,
                found.uid(),
                what.to_lowercase(),
                reference.uid
            ))),
            Some(found) if !is_gone(&found, now) => Ok(()),
            _ => Err(invalid("service account token has been invalidated")),
        }
    };
    bound("secret", &bindings.secret, "secrets", namespace)?;
    bound("pod", &bindings.pod, "pods", namespace)?;
    // The node of a pod's token is information; only a token bound to the node itself dies with the node.
    match bindings.pod {
        Some(_) => Ok(()),
        None => bound("node", &bindings.node, "nodes", ""),
    }
}

/// Its deletion is due, and has been for longer than clocks may differ.
fn is_gone(object: &Object, now: i64) -> bool {
    let due = object
        .deletion_timestamp()
        .and_then(|at| at.parse::<Timestamp>().ok());
    due.is_some_and(|due| due.as_second() < now - LEEWAY_SECONDS)
}

fn user_of(claims: &Claims) -> User {
    let bindings = &claims.kubernetes;
    let account = &bindings.serviceaccount;
    let mut user = User::service_account(&bindings.namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(key.to_owned(), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &bindings.pod {
        extra(user::EXTRA_POD_NAME, &pod.name);
        extra(user::EXTRA_POD_UID, &pod.uid);
    }
    if let Some(node) = &bindings.node {
        extra(user::EXTRA_NODE_NAME, &node.name);
        extra(user::EXTRA_NODE_UID, &node.uid);
    }
    if !claims.jti.is_empty() {
        extra(user::EXTRA_CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    user
}
