//! Keys over P-521, which the usual provider does not know: ECDSA with SHA-512 (ES512).
//!
//! Nonces are made of the key and the message (RFC 6979): a signature needs no random numbers, and no bit of a nonce is
//! known beforehand.

use ::p521::SecretKey;
use ::p521::ecdsa::signature::{Signer, Verifier};
use ::p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use ::p521::pkcs8::DecodePrivateKey;

/// Length of an uncompressed point, and of each of the numbers in it.
pub(crate) const POINT: usize = 133;
pub(crate) const NUMBER: usize = 66;

/// A private key.
pub(crate) struct Pair(SigningKey);

impl Pair {
    /// Reads PKCS #8.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let secret = SecretKey::from_pkcs8_der(der).ok()?;
        Some(Self(SigningKey::from(secret)))
    }

    /// The public half, as an uncompressed point.
    pub(crate) fn point(&self) -> Vec<u8> {
        let point = self.0.verifying_key().to_sec1_point(false);
        point.as_bytes().to_vec()
    }

    /// The signature: two numbers of [`NUMBER`] bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature: Signature = self.0.try_sign(message).ok()?;
        Some(signature.to_vec())
    }
}

/// Whether the key of this point has signed a message.
pub(crate) fn verifies(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let verify = || {
        let key = VerifyingKey::from_sec1_bytes(point).ok()?;
        let signature = Signature::from_slice(signature).ok()?;
        key.verify(message, &signature).ok()
    };
    verify().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).expect("hex"), 16);
        digits.map(|two| byte(two).expect("hex")).collect()
    }

    #[test]
    fn signatures_are_those_of_rfc_6979() {
        // Section A.2.7, SHA-512, message "sample".
        let secret = "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1\
                      466F6D8FBEC67DB89EC0C08B0E996B83538";
        let expected = "00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B5\
                        34931D7D4E8455CC91F9B15BF05EC36E377FA00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA20941730828\
                        1B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A";
        let secret = SecretKey::from_slice(&bytes(secret)).expect("a key");
        let pair = Pair(SigningKey::from(secret));
        let signature = pair.sign(b"sample").expect("signed");
        assert_eq!(signature, bytes(expected));
        assert_eq!((pair.point().len(), signature.len()), (POINT, 2 * NUMBER));
        assert!(verifies(&pair.point(), b"sample", &signature));
        assert!(!verifies(&pair.point(), b"simple", &signature));
        assert!(!verifies(&pair.point()[1..], b"sample", &signature));
        assert!(!verifies(&pair.point(), b"sample", &[0; 132]));
    }
}
