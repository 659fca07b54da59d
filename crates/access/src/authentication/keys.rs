//! Keys of other issuers, as they publish them, and what is signed by them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

use crate::p521;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    id: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
}

/// Reads a set of keys. Those of kinds that are not known, or that are not for signatures, are left out.
///
/// # Errors
/// It is no such set.
pub fn read_keys(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let keys = set["keys"].as_array().ok_or("no keys")?;
    Ok(keys.iter().filter_map(read_key).collect())
}

fn read_key(key: &Value) -> Option<Key> {
    let text = |name: &str| key[name].as_str().unwrap_or_default();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).ok();
    if !matches!(text("use"), "" | "sig") {
        return None;
    }
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        let fits = x.len() == length && y.len() == length;
        fits.then(|| [&[4][..], &x, &y].concat())
    };
    let kind = match (text("kty"), text("crv")) {
        ("RSA", _) => Kind::Rsa {
            n: bytes("n")?,
            e: bytes("e")?,
        },
        ("EC", "P-256") => Kind::P256(point(32)?),
        ("EC", "P-384") => Kind::P384(point(48)?),
        ("EC", "P-521") => Kind::P521(point(p521::NUMBER)?),
        _ => return None,
    };
    let id = text("kid").to_owned();
    Some(Key { id, kind })
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

impl Key {
    /// The name by which tokens refer to it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it has signed this. The algorithm must be one for keys of its kind.
    pub(super) fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let ecdsa = |wanted: &str, how: &'static EcdsaVerificationAlgorithm, point: &[u8]| {
            algorithm == wanted
                && UnparsedPublicKey::new(how, point)
                    .verify(message, signature)
                    .is_ok()
        };
        match &self.kind {
            Kind::Rsa { n, e } => rsa(algorithm).is_some_and(|how| {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(how, message, signature).is_ok()
            }),
            Kind::P256(point) => ecdsa("ES256", &ECDSA_P256_SHA256_FIXED, point),
            Kind::P384(point) => ecdsa("ES384", &ECDSA_P384_SHA384_FIXED, point),
            Kind::P521(point) => algorithm == "ES512" && p521::verifies(point, message, signature),
        }
    }
}
