//! Keys: RSA with SHA-256 (RS256), and ECDSA over P-256, P-384 and P-521 (ES256, ES384, ES512).
//!
//! Files are PEM, and hold what openssl and kubeadm write: PKCS #8, PKCS #1 or SEC 1; a key that only verifies may be
//! that of a certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    EcdsaVerificationAlgorithm, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    UnparsedPublicKey,
};
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde_json::{Value, json};

use machinery::der;

use crate::p521;

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No block of the wanted kind in the text.
    #[error("no PEM block with a key")]
    NoBlock,
    /// Not base64 inside the block.
    #[error("the PEM block is damaged")]
    Damaged,
    /// A key of another kind, or none.
    #[error("not an RSA key of 2048 to 4096 bits, nor an ECDSA key over P-256, P-384 or P-521")]
    Unknown,
    /// The system gives no random numbers.
    #[error("no random numbers to make a key from")]
    NoRandom,
}

/// What is signed and verified over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Its object identifier, encoded.
    fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::P256 => ("P-256", "ES256"),
            Self::P384 => ("P-384", "ES384"),
            Self::P521 => ("P-521", "ES512"),
        }
    }

    /// Length of an uncompressed point.
    fn point(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => p521::POINT,
        }
    }

    /// A private key over it.
    fn pair(self, der: &[u8], random: &SystemRandom) -> Option<(Pair, Vec<u8>)> {
        let of_ring = |how: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(how, der, random).ok()?;
            let point = pair.public_key().as_ref().to_vec();
            Some((Pair::Ec(pair), point))
        };
        match self {
            Self::P256 => of_ring(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => of_ring(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::P521 => {
                let pair = p521::Pair::from_pkcs8(der)?;
                let point = pair.point();
                Some((Pair::P521(Box::new(pair)), point))
            }
        }
    }

    fn verifies(self, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let by_ring = |how: &'static EcdsaVerificationAlgorithm| {
            let key = UnparsedPublicKey::new(how, point);
            key.verify(message, signature).is_ok()
        };
        match self {
            Self::P256 => by_ring(&ECDSA_P256_SHA256_FIXED),
            Self::P384 => by_ring(&ECDSA_P384_SHA384_FIXED),
            Self::P521 => p521::verifies(point, message, signature),
        }
    }
}

/// `ecPublicKey`, encoded.
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `rsaEncryption` and its empty parameters, encoded.
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

enum Pair {
    Ec(EcdsaKeyPair),
    P521(Box<p521::Pair>),
    Rsa(rsa::KeyPair),
}

/// A key that signs tokens.
pub struct SigningKey {
    pair: Pair,
    random: SystemRandom,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key over P-256, as PKCS #8.
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
    /// It is not a key of the kinds known here.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        for curve in Curve::ALL {
            if let Some((pair, point)) = curve.pair(der, &random) {
                let public = PublicKey::of_point(curve, &point)?;
                return Ok(Self::new(pair, random, public));
            }
        }
        let pair = rsa::KeyPair::from_pkcs8(der).map_err(|_| KeyError::Unknown)?;
        Self::from_rsa(pair)
    }

    fn from_rsa(pair: rsa::KeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::of_rsa(pair.public().as_ref())?;
        Ok(Self::new(Pair::Rsa(pair), SystemRandom::new(), public))
    }

    fn new(pair: Pair, random: SystemRandom, public: PublicKey) -> Self {
        Self {
            pair,
            random,
            public,
        }
    }

    /// Reads a key from SEC 1, which may leave its curve to the block before it.
    fn from_sec1(body: &[u8]) -> Result<Self, KeyError> {
        let wrapped = |curve: Curve| {
            let kind = der::sequence(&[EC, curve.oid()]);
            let body = der::element(der::OCTET_STRING, body);
            Self::from_pkcs8(&der::sequence(&[&[0x02, 0x01, 0x00], &kind, &body]))
        };
        let mut keys = Curve::ALL
            .into_iter()
            .filter_map(|curve| wrapped(curve).ok());
        keys.next().ok_or(KeyError::Unknown)
    }

    /// Reads the first private key of a PEM file.
    ///
    /// # Errors
    /// There is none, or it is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        for (kind, der) in blocks(text)? {
            match kind {
                SectionKind::PrivateKey => return Self::from_pkcs8(&der),
                SectionKind::EcPrivateKey => return Self::from_sec1(&der),
                SectionKind::RsaPrivateKey => {
                    let pair = rsa::KeyPair::from_der(&der).map_err(|_| KeyError::Unknown)?;
                    return Self::from_rsa(pair);
                }
                _ => {}
            }
        }
        Err(KeyError::NoBlock)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature, as tokens carry it; `None` when the system gives no random numbers.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&self.random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Pair::P521(pair) => pair.sign(message),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature);
                signed.ok().map(|()| signature)
            }
        }
    }
}

/// The blocks of a PEM file that say what they are.
fn blocks(text: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, KeyError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| KeyError::Damaged)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Ec { curve: Curve, point: Vec<u8> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    key: Public,
    /// It verifies tokens and is not shown to others.
    hidden: bool,
}

impl PublicKey {
    /// Reads all keys of a PEM file: public ones, those of certificates, and the public halves of private ones.
    ///
    /// # Errors
    /// There is none, or one is of another kind.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for (kind, der) in blocks(text)? {
            match kind {
                SectionKind::PublicKey => keys.push(Self::from_spki(&der)?),
                SectionKind::Certificate => {
                    let spki = machinery::certificate::public_key(&der).ok_or(KeyError::Damaged)?;
                    keys.push(Self::from_spki(&spki)?);
                }
                SectionKind::PrivateKey => keys.push(SigningKey::from_pkcs8(&der)?.public),
                SectionKind::EcPrivateKey => keys.push(SigningKey::from_sec1(&der)?.public),
                SectionKind::RsaPrivateKey => {
                    let pair = rsa::KeyPair::from_der(&der).map_err(|_| KeyError::Unknown)?;
                    keys.push(SigningKey::from_rsa(pair)?.public);
                }
                _ => {}
            }
        }
        match keys.is_empty() {
            true => Err(KeyError::NoBlock),
            false => Ok(keys),
        }
    }

    /// Reads a key as X.509 writes it (`SubjectPublicKeyInfo`).
    ///
    /// # Errors
    /// It is not a key of the kinds known here.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        Self::read_spki(der).ok_or(KeyError::Unknown)
    }

    fn read_spki(der: &[u8]) -> Option<Self> {
        let (body, []) = der::read(der::SEQUENCE, der)? else {
            return None;
        };
        let (kind, rest) = der::read(der::SEQUENCE, body)?;
        let (bits, []) = der::read(der::BIT_STRING, rest)? else {
            return None;
        };
        let key = bits.strip_prefix(&[0])?;
        if kind == RSA {
            return Self::of_rsa(key).ok();
        }
        let curve = kind.strip_prefix(EC)?;
        let curve = Curve::ALL.into_iter().find(|c| c.oid() == curve)?;
        Self::of_point(curve, key).ok()
    }

    fn of_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != curve.point() || point[0] != 4 {
            return Err(KeyError::Unknown);
        }
        let id = id(&[EC, curve.oid()], point);
        let point = point.to_vec();
        let key = Public::Ec { curve, point };
        let hidden = false;
        Ok(Self { id, key, hidden })
    }

    /// From `RSAPublicKey`.
    fn of_rsa(der: &[u8]) -> Result<Self, KeyError> {
        let numbers = || {
            let (body, _) = der::read(der::SEQUENCE, der)?;
            let (modulus, rest) = der::read(der::INTEGER, body)?;
            let (exponent, _) = der::read(der::INTEGER, rest)?;
            Some((positive(modulus), positive(exponent)))
        };
        let (modulus, exponent) = numbers().ok_or(KeyError::Unknown)?;
        if modulus.len() < 256 {
            return Err(KeyError::Unknown);
        }
        let id = id(&[RSA], der);
        let (modulus, exponent) = (modulus.to_vec(), exponent.to_vec());
        let key = Public::Rsa { modulus, exponent };
        let hidden = false;
        Ok(Self { id, key, hidden })
    }

    /// Under another name than its own; `hidden`: not shown to others.
    #[must_use]
    pub fn named(mut self, id: String, hidden: bool) -> Self {
        (self.id, self.hidden) = (id, hidden);
        self
    }

    /// Not shown to others.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The key ID: a digest of the key, as in the `kid` of tokens.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How tokens of this key are signed, as they say it.
    pub fn algorithm(&self) -> &'static str {
        match &self.key {
            Public::Ec { curve, .. } => curve.names().1,
            Public::Rsa { .. } => "RS256",
        }
    }

    /// The key as a JSON web key.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (id, algorithm) = (&self.id, self.algorithm());
        match &self.key {
            Public::Ec { curve, point } => {
                let (x, y) = point[1..].split_at(point.len() / 2);
                json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": curve.names().0, "alg": algorithm,
                    "x": text(x), "y": text(y),
                })
            }
            Public::Rsa { modulus, exponent } => json!({
                "use": "sig", "kty": "RSA", "kid": id, "alg": algorithm,
                "n": text(modulus), "e": text(exponent),
            }),
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::Ec { curve, point } => curve.verifies(point, message, signature),
            Public::Rsa { modulus, exponent } => {
                let (n, e) = (modulus, exponent);
                let key = rsa::PublicKeyComponents { n, e };
                let verified = key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature);
                verified.is_ok()
            }
        }
    }
}

/// A number without the zero that keeps it positive.
fn positive(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// The digest of a key as X.509 writes it.
fn id(kind: &[&[u8]], key: &[u8]) -> String {
    let bits = der::element(der::BIT_STRING, &[&[0], key].concat());
    let der = der::sequence(&[&der::sequence(kind), &bits]);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der))
}
