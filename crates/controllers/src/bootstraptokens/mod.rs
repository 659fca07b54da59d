//! Bootstrap tokens: removed when they expire, and made to vouch for what a new node reads first.
//!
//! Upstream: `pkg/controller/bootstrap`.

pub mod cleaner;
pub mod signer;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";

/// Whether a secret is a bootstrap token.
pub(crate) fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE)
        && secret.metadata.namespace.as_deref() == Some(NAMESPACE)
}

fn datum<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
        .unwrap_or_default()
}

/// When a token ends; one that does not say so in a way that can be read has ended long ago.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    match datum(secret, "expiration") {
        "" => None,
        text => Some(text.parse().unwrap_or(Timestamp::MIN)),
    }
}
