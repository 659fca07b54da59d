//! The token with which a node joins: a bootstrap token, and before it a digest of the cluster's authority.
//!
//! `K10<SHA-256 of the authority's certificate>::<id>.<secret>`. Without the digest the authority is believed when the
//! token itself has signed it, as kubeadm does; whoever holds the token could then stand between.

use anyhow::{Context, bail};
use rand::RngExt;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

const PREFIX: &str = "K10";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Digest of the authority, in hexadecimal digits.
    pub(super) pin: Option<String>,
    pub(super) id: String,
    pub(super) secret: String,
}

impl Token {
    /// Reads a token.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let (pin, token) = match text.strip_prefix(PREFIX).and_then(|t| t.split_once("::")) {
            Some((pin, token)) if pin.len() == 64 => (Some(pin.to_lowercase()), token),
            Some(_) => bail!("the token's digest of the authority does not have 64 digits"),
            None => (None, text),
        };
        match access::tokens::bootstrap::parse(token) {
            Some((id, secret)) => Ok(Self {
                pin,
                id: id.to_owned(),
                secret: secret.to_owned(),
            }),
            None => bail!(
                "a token has the form [K10<digest>::]<id>.<secret>, with 6 and 16 lower-case letters \
                 and digits"
            ),
        }
    }

    /// A new one.
    pub(super) fn random() -> Self {
        let mut random = rand::rng();
        let mut text = |length: usize| -> String {
            let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
            (0..length).map(letter).collect()
        };
        Self {
            pin: None,
            id: text(6),
            secret: text(16),
        }
    }

    /// The bearer token.
    pub(super) fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The whole token for a cluster with this authority.
    pub(super) fn pinned(&self, authority: &str) -> anyhow::Result<String> {
        let pins = digests(authority)?;
        let pin = pins.first().context("there is no authority")?;
        Ok(format!("{PREFIX}{pin}::{}", self.bearer()))
    }
}

/// Digests of certificates, PEM.
pub(super) fn digests(pem: &str) -> anyhow::Result<Vec<String>> {
    let digest = |der: CertificateDer<'_>| hex::encode(Sha256::digest(&der));
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    Ok(all.map(|der| der.map(digest)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = Token::random();
        assert_eq!(Token::parse(&token.bearer()).expect("a token"), token);
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let authority = parameters.self_signed(&key).expect("signed").pem();
        let whole = token.pinned(&authority).expect("pinned");
        let read = Token::parse(&whole).expect("a token");
        assert_eq!(read.pin, digests(&authority).expect("digests").pop());
        assert_eq!(read.bearer(), token.bearer());
        for wrong in [
            "",
            "abc",
            "K10ff::abcdef.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
        ] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
