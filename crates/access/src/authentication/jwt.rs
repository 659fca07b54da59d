//! JSON web tokens of other issuers: taken apart, and verified.
//!
//! Behaviour: `github.com/coreos/go-oidc` (`verify.go`), `k8s.io/apiserver/plugin/pkg/authenticator/token/oidc`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Issuer, Key};
use crate::quote::quote_all;

/// Clocks may differ by so much when a token says from when on it is good.
const LEEWAY_SECONDS: i64 = 300;

/// A token in its parts, of which nothing is believed yet.
pub struct Jwt<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: String,
    key_id: String,
    /// What it claims.
    pub claims: Map<String, Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart; none when it is no such token.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let json = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decode(part)?).ok();
        let header = json(header)?;
        let text = |key: &str| header.get(key).and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            signed,
            signature: decode(signature)?,
            algorithm: text("alg").to_owned(),
            key_id: text("kid").to_owned(),
            claims: json(claims)?,
        })
    }

    /// Who says to have issued it.
    pub fn issuer(&self) -> &str {
        let found = self.claims.get("iss").and_then(Value::as_str);
        found.unwrap_or_default()
    }

    /// Whether one of these keys may have signed it.
    pub fn is_of(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| self.may_be_of(key))
    }

    fn may_be_of(&self, key: &Key) -> bool {
        self.key_id.is_empty() || key.id() == self.key_id
    }

    /// Whether it is what its issuer has signed, for us, and now.
    pub(super) fn check(
        &self,
        issuer: &Issuer,
        keys: &[Key],
        now: Timestamp,
    ) -> Result<(), String> {
        let audiences = match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences
            .iter()
            .any(|a| issuer.audiences.iter().any(|own| own == a))
        {
            let (wanted, got) = (quote_all(&issuer.audiences), quote_all(&audiences));
            return Err(format!("oidc: expected audience in {wanted} got {got}"));
        }
        let time = |key: &str| self.claims.get(key).and_then(Value::as_f64);
        // Seconds since the epoch fit exactly into the numbers that JSON has.
        let now = now.as_second();
        match time("exp") {
            Some(end) if end >= now as f64 => {}
            _ => return Err("oidc: token is expired".to_owned()),
        }
        if time("nbf").is_some_and(|from| from > (now + LEEWAY_SECONDS) as f64) {
            return Err("oidc: current time before the nbf (not before) time".to_owned());
        }
        if !issuer.algorithms.contains(&self.algorithm) {
            let known = quote_all(&issuer.algorithms);
            let own = &self.algorithm;
            return Err(format!(
                "oidc: id token signed with unsupported algorithm, expected {known} got {own:?}"
            ));
        }
        let message = self.signed.as_bytes();
        let good = |key: &Key| {
            self.may_be_of(key) && key.verifies(&self.algorithm, message, &self.signature)
        };
        match keys.iter().any(good) {
            true => Ok(()),
            false => {
                Err("failed to verify signature: failed to verify id token signature".to_owned())
            }
        }
    }
}

/// What an issuer says of itself.
pub struct Discovery {
    /// Where its keys are.
    pub keys_url: String,
}

impl Discovery {
    /// Reads the document; `issuer` is the URL that tokens name.
    ///
    /// # Errors
    /// It is another's, or no such document.
    pub fn read(text: &[u8], issuer: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(text)
            .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
        let part = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let own = part("issuer");
        if own != issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {issuer:?} got {own:?}"
            ));
        }
        let keys_url = part("jwks_uri");
        match keys_url.starts_with("https://") {
            true => Ok(Self { keys_url }),
            false => Err(format!(
                "oidc: jwks_uri must be an https URL, got {keys_url:?}"
            )),
        }
    }
}
