//! Keys: ECDSA over P-256 with SHA-256 (ES256).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `PRIVATE KEY` block in the text.
    #[error("no PEM block with a PKCS #8 private key")]
    NoBlock,
    /// Not base64 inside the block.
    #[error("the PEM block is damaged")]
    Damaged,
    /// Not a P-256 key.
    #[error("not an ECDSA P-256 private key in PKCS #8")]
    NotP256,
    /// The system gives no random numbers.
    #[error("no random numbers to make a key from")]
    NoRandom,
}

/// A key that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key, as PKCS #8.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate_pkcs8() -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| KeyError::NoRandom)
    }

    /// Reads a key from PKCS #8.
    ///
    /// # Errors
    /// It is not an ECDSA P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|_| KeyError::NotP256)?;
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(Self {
            pair,
            random,
            public,
        })
    }

    /// Reads a key from the `PRIVATE KEY` block of a PEM file.
    ///
    /// # Errors
    /// There is no such block, or it is not an ECDSA P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (_, rest) = text
            .split_once("-----BEGIN PRIVATE KEY-----")
            .ok_or(KeyError::NoBlock)?;
        let (body, _) = rest
            .split_once("-----END PRIVATE KEY-----")
            .ok_or(KeyError::NoBlock)?;
        let body: String = body.split_whitespace().collect();
        Self::from_pkcs8(&STANDARD.decode(body).map_err(|_| KeyError::Damaged)?)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature, as tokens carry it; `None` when the system gives no random numbers.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair
            .sign(&self.random, message)
            .ok()
            .map(|signature| signature.as_ref().to_vec())
    }
}

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    point: [u8; 65],
}

/// A P-256 key as X.509 writes it, up to the point itself.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// Reads a key from the `PUBLIC KEY` block of a PEM file.
    ///
    /// # Errors
    /// There is no such block, or it is not an ECDSA P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (_, rest) = text
            .split_once("-----BEGIN PUBLIC KEY-----")
            .ok_or(KeyError::NoBlock)?;
        let (body, _) = rest
            .split_once("-----END PUBLIC KEY-----")
            .ok_or(KeyError::NoBlock)?;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::Damaged)?;
        Self::from_point(der.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::NotP256)?)
    }

    /// A key from its uncompressed point.
    ///
    /// # Errors
    /// The bytes are not such a point.
    pub fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; 65] = point.try_into().map_err(|_| KeyError::NotP256)?;
        if point[0] != 4 {
            return Err(KeyError::NotP256);
        }
        let der = [SPKI_PREFIX.as_slice(), &point].concat();
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der));
        Ok(Self { id, point })
    }

    /// The key ID: a digest of the key, as in the `kid` of tokens.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as a JSON web key.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.point[1..].split_at(32);
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point);
        key.verify(message, signature).is_ok()
    }
}
