//! The key of service accounts' tokens, for the controller that fills secrets.

use std::sync::Arc;

use access::tokens::{SigningKey, legacy};
use anyhow::Context;
use controller_manager::SignToken;

struct Signer(SigningKey);

impl SignToken for Signer {
    fn token(&self, namespace: &str, account: (&str, &str), secret: &str) -> Option<String> {
        legacy::sign(&self.0, namespace, account, secret)
    }
}

/// Signs with the key of a PEM file's text.
pub(crate) fn from_pem(text: &str) -> anyhow::Result<Arc<dyn SignToken>> {
    let key = SigningKey::from_pem(text).context("the key of service accounts cannot be used")?;
    Ok(Arc::new(Signer(key)))
}
