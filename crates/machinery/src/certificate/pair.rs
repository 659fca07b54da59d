//! Whether a certificate and a private key belong together.
//!
//! Words: Go's `crypto/tls.X509KeyPair`, which upstream's warning about a secret quotes.

use ring::signature::{Ed25519KeyPair, KeyPair};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::CERTIFICATE;
use crate::{der, pem};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ED25519_NAME: &str = "1.3.101.112";
const OBJECT_IDENTIFIER: u8 = 0x06;

/// As much of a private key as says which public key is its own.
enum Private {
    /// The modulus.
    Rsa(Vec<u8>),
    /// The public point, where the key says it.
    Ec(Option<Vec<u8>>),
    Ed25519(Vec<u8>),
}

/// Why these are no certificate and its key (both PEM); nothing: they are.
pub fn pair_problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    problem(certificate, key).err()
}

fn problem(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let (der, skipped) = first_block(certificate, |label| label == CERTIFICATE);
    let der = der.ok_or_else(|| no_certificate(&skipped))?;
    let is_key = |label: &str| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY");
    let (key, skipped) = first_block(key, is_key);
    let key = key.ok_or_else(|| no_key(&skipped))?;
    let malformed = |_| "x509: malformed certificate".to_owned();
    let (_, certificate) = X509Certificate::from_der(&der).map_err(malformed)?;
    let private = private_key(&key).ok_or("tls: failed to parse private key")?;
    match fits(&certificate, &private)? {
        true => Ok(()),
        false => Err("tls: private key does not match public key".to_owned()),
    }
}

fn fits(certificate: &X509Certificate<'_>, private: &Private) -> Result<bool, &'static str> {
    let info = certificate.public_key();
    let bits = &*info.subject_public_key.data;
    let is_ed25519 = info.algorithm.algorithm.to_id_string() == ED25519_NAME;
    Ok(match (info.parsed(), private) {
        (_, Private::Ed25519(own)) if is_ed25519 => *own == bits,
        (Ok(PublicKey::RSA(key)), Private::Rsa(modulus)) => without_zeros(key.modulus) == modulus,
        (Ok(PublicKey::EC(_)), Private::Ec(own)) => own.as_ref().is_none_or(|own| *own == bits),
        (Ok(PublicKey::RSA(_) | PublicKey::EC(_)), _) => {
            return Err("tls: private key type does not match public key type");
        }
        _ if is_ed25519 => return Err("tls: private key type does not match public key type"),
        _ => return Err("tls: unknown public key algorithm"),
    })
}

/// The content of the first block with a label that is wanted, and the labels before it.
fn first_block(text: &[u8], wanted: impl Fn(&str) -> bool) -> (Option<Vec<u8>>, Vec<String>) {
    let mut skipped = Vec::new();
    for block in pem::blocks(text) {
        if wanted(&block.label) {
            return (Some(block.contents), skipped);
        }
        skipped.push(block.label);
    }
    (None, skipped)
}

fn no_certificate(skipped: &[String]) -> String {
    match skipped {
        [] => "tls: failed to find any PEM data in certificate input".to_owned(),
        [label] if label.ends_with("PRIVATE KEY") => {
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched"
                .to_owned()
        }
        all => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: [{}]",
            all.join(" ")
        ),
    }
}

fn no_key(skipped: &[String]) -> String {
    match skipped {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [label] if label == CERTIFICATE => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        all => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks \
             of the following types: [{}]",
            all.join(" ")
        ),
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// A key in PKCS #1, PKCS #8 or SEC 1.
fn private_key(key: &[u8]) -> Option<Private> {
    rsa(key).or_else(|| wrapped(key)).or_else(|| ec(key))
}

/// PKCS #1: version, modulus, and more.
fn rsa(key: &[u8]) -> Option<Private> {
    let (body, _) = der::read(der::SEQUENCE, key)?;
    let (_, rest) = der::read(der::INTEGER, body)?;
    let (modulus, rest) = der::read(der::INTEGER, rest)?;
    der::read(der::INTEGER, rest)?;
    Some(Private::Rsa(without_zeros(modulus).to_vec()))
}

/// PKCS #8: version, algorithm, the key itself.
fn wrapped(key: &[u8]) -> Option<Private> {
    let (body, _) = der::read(der::SEQUENCE, key)?;
    let (_, rest) = der::read(der::INTEGER, body)?;
    let (algorithm, rest) = der::read(der::SEQUENCE, rest)?;
    let (name, _) = der::read(OBJECT_IDENTIFIER, algorithm)?;
    let (inner, _) = der::read(der::OCTET_STRING, rest)?;
    match name {
        RSA => rsa(inner),
        EC => ec(inner),
        ED25519 => {
            let (seed, _) = der::read(der::OCTET_STRING, inner)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
            Some(Private::Ed25519(pair.public_key().as_ref().to_vec()))
        }
        _ => None,
    }
}

/// SEC 1: version, the number, perhaps the curve, perhaps the public point.
fn ec(key: &[u8]) -> Option<Private> {
    const CURVE: u8 = 0xa0;
    const POINT: u8 = 0xa1;
    let (body, _) = der::read(der::SEQUENCE, key)?;
    let (_, rest) = der::read(der::INTEGER, body)?;
    let (_, rest) = der::read(der::OCTET_STRING, rest)?;
    let rest = der::read(CURVE, rest).map_or(rest, |(_, rest)| rest);
    let point = der::read(POINT, rest).and_then(|(point, _)| {
        let (bits, _) = der::read(der::BIT_STRING, point)?;
        // The first byte counts unused bits.
        bits.split_first().map(|(_, bits)| bits.to_vec())
    });
    Some(Private::Ec(point))
}
