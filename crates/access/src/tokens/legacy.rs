//! Tokens that do not end: a secret of type `kubernetes.io/service-account-token` holds one for as long as it is there.
//!
//! Behaviour: `pkg/serviceaccount/legacy.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::Object;
use serde::{Deserialize, Serialize};

use super::verify::{TokenError, encode, invalid};
use super::{Authenticated, LegacyUse, SigningKey};
use crate::{Lookup, User, user};

/// Who has issued them, whatever the server's issuer is.
pub const ISSUER: &str = "kubernetes/serviceaccount";
/// Since when a token has not been used any more, and is not good therefore.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Deserialize, Serialize)]
struct Claims {
    iss: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    #[serde(default)]
    sub: String,
}

/// The token of a secret for an account; none when the system gives no random numbers.
pub fn sign(
    key: &SigningKey,
    namespace: &str,
    (account, uid): (&str, &str),
    secret: &str,
) -> Option<String> {
    let claims = Claims {
        iss: ISSUER.to_owned(),
        namespace: namespace.to_owned(),
        secret: secret.to_owned(),
        account: account.to_owned(),
        uid: uid.to_owned(),
        sub: user::service_account_name(namespace, account),
    };
    encode(key, &claims)
}

/// Whose a token is whose signature has been found good.
pub(super) fn user(
    token: &str,
    payload: &[u8],
    audiences: Vec<String>,
    lookup: &dyn Lookup,
) -> Result<Authenticated, TokenError> {
    let claims: Claims = serde_json::from_slice(payload).map_err(|_| TokenError::Foreign)?;
    for (claim, name) in [
        (&claims.sub, "sub"),
        (&claims.namespace, "namespace"),
        (&claims.secret, "secretName"),
        (&claims.account, "serviceAccountName"),
        (&claims.uid, "serviceAccountUID"),
    ] {
        if claim.is_empty() {
            return Err(invalid(format!("{name} claim is missing")));
        }
    }
    let (namespace, name) = (claims.namespace.as_str(), claims.account.as_str());
    if claims.sub != user::service_account_name(namespace, name) {
        return Err(invalid("sub claim is invalid"));
    }
    let secret = lookup.get("", "secrets", namespace, &claims.secret);
    let secret = secret.filter(|secret| secret.deletion_timestamp().is_none());
    let secret = secret.ok_or_else(|| invalid("Token has been invalidated"))?;
    let kept = STANDARD.decode(secret.str_at(&["data", "token"]));
    // The signature is good, so that the holder of any such token has no use for the time that comparing takes.
    if kept.ok().as_deref() != Some(token.as_bytes()) {
        return Err(invalid("Token does not match server's copy"));
    }
    let account = lookup.get("", "serviceaccounts", namespace, name);
    let account =
        account.ok_or_else(|| invalid(format!("serviceaccounts \"{name}\" not found")))?;
    if account.deletion_timestamp().is_some() {
        return Err(invalid(format!(
            "ServiceAccount {namespace}/{name} has been deleted"
        )));
    }
    if account.uid() != claims.uid {
        let (is, says) = (account.uid(), &claims.uid);
        return Err(invalid(format!(
            "ServiceAccount UID ({is}) does not match claim ({says})"
        )));
    }
    if secret
        .label(INVALID_SINCE)
        .is_some_and(|since| !since.is_empty())
    {
        let secret = &claims.secret;
        let made_by_itself = names(&account, secret);
        let why = format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        );
        return Err(TokenError::Withdrawn {
            why,
            made_by_itself,
        });
    }
    Ok(Authenticated {
        user: User::service_account(namespace, name, &claims.uid),
        audiences,
        stale: false,
        legacy: Some(LegacyUse {
            made_by_itself: names(&account, &claims.secret),
            secret,
        }),
    })
}

fn names(account: &Object, secret: &str) -> bool {
    let all = account.0.get("secrets").and_then(|s| s.as_array());
    all.into_iter().flatten().any(|one| one["name"] == secret)
}
