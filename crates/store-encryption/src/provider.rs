//! The ways to encrypt one value.

use std::sync::Arc;

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Nonce as BoxNonce, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::kms::Kms;

/// What every encrypted value starts with.
pub(crate) const MARK: &[u8] = b"k8s:enc:";
const BLOCK: usize = 16;
const BOX_NONCE: usize = 24;

/// Why a value cannot be encrypted or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Not by this key, or somebody changed the value.
    #[error("the data was not encrypted by this key, or it was changed since")]
    Forged,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// The key management service has not been asked, or had no answer.
    #[error("no key of the key management service is at hand")]
    NoKey,
}

/// A key and what it is used for.
pub(crate) enum Cipher {
    /// AES in Galois/counter mode; bound to the place of the value.
    Gcm(Box<LessSafeKey>),
    /// AES in cipher block chaining mode.
    Cbc(Vec<u8>),
    /// XSalsa20 and Poly1305.
    Secretbox(Box<XSalsa20Poly1305>),
}

/// A named key of a provider, or the provider that leaves values as they are.
pub(crate) enum Provider {
    /// Values stay as they are.
    Identity,
    /// Values are encrypted.
    Key {
        /// What the values start with: `k8s:enc:aesgcm:v1:name:`.
        prefix: Vec<u8>,
        /// The key.
        cipher: Cipher,
    },
    /// Values are encrypted by keys of a key management service.
    Kms(Arc<Kms>),
}

impl Cipher {
    /// The cipher of a provider's name.
    ///
    /// # Errors
    /// The key has a length that the cipher does not take.
    pub(crate) fn new(provider: &str, key: &[u8]) -> Result<Self, String> {
        let wrong = |allowed: &str| {
            format!(
                "secret is not of the expected length, got {}, expected one of {allowed}",
                key.len()
            )
        };
        match (provider, key.len()) {
            ("aesgcm", 16 | 32) => {
                let algorithm = if key.len() == 16 {
                    &AES_128_GCM
                } else {
                    &AES_256_GCM
                };
                let key = UnboundKey::new(algorithm, key).map_err(|_| wrong("[16 32]"))?;
                Ok(Self::Gcm(Box::new(LessSafeKey::new(key))))
            }
            ("aesgcm", _) => Err(wrong("[16 32]")),
            ("aescbc", 16 | 24 | 32) => Ok(Self::Cbc(key.to_vec())),
            ("aescbc", _) => Err(wrong("[16 24 32]")),
            _ => {
                let made = XSalsa20Poly1305::new_from_slice(key).map_err(|_| wrong("[32]"))?;
                Ok(Self::Secretbox(Box::new(made)))
            }
        }
    }

    pub(crate) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Gcm(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                let mut sealed = plain.to_vec();
                let aad = Aad::from(place);
                let unique = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(unique, aad, &mut sealed)
                    .map_err(|_| Failure::NoRandom)?;
                Ok([&nonce[..], &sealed].concat())
            }
            Self::Cbc(key) => {
                let iv: [u8; BLOCK] = random()?;
                Ok([&iv[..], &cbc_encrypt(key, &iv, plain)].concat())
            }
            Self::Secretbox(key) => {
                let nonce: [u8; BOX_NONCE] = random()?;
                let sealed = key.encrypt(BoxNonce::from_slice(&nonce), plain);
                Ok([&nonce[..], &sealed.map_err(|_| Failure::NoRandom)?].concat())
            }
        }
    }

    pub(crate) fn decrypt(&self, data: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Gcm(key) => {
                let (nonce, sealed) = data
                    .split_first_chunk::<NONCE_LEN>()
                    .ok_or(Failure::Forged)?;
                let mut sealed = sealed.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let opened = key.open_in_place(nonce, Aad::from(place), &mut sealed);
                let length = opened.map_err(|_| Failure::Forged)?.len();
                sealed.truncate(length);
                Ok(sealed)
            }
            Self::Cbc(key) => {
                let (iv, sealed) = data.split_first_chunk::<BLOCK>().ok_or(Failure::Forged)?;
                cbc_decrypt(key, iv, sealed).ok_or(Failure::Forged)
            }
            Self::Secretbox(key) => {
                let (nonce, sealed) = data
                    .split_first_chunk::<BOX_NONCE>()
                    .ok_or(Failure::Forged)?;
                let opened = key.decrypt(BoxNonce::from_slice(nonce), sealed);
                opened.map_err(|_| Failure::Forged)
            }
        }
    }
}

impl Provider {
    /// The key management service, where it is one.
    pub(crate) fn kms(&self) -> Option<&Arc<Kms>> {
        match self {
            Self::Kms(kms) => Some(kms),
            _ => None,
        }
    }

    /// The stored form of a value.
    pub(crate) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Identity => Ok(plain.to_vec()),
            Self::Key { prefix, cipher } => {
                Ok([prefix.as_slice(), &cipher.encrypt(plain, place)?].concat())
            }
            Self::Kms(kms) => kms.encrypt(plain, place),
        }
    }

    /// Whether a stored value is of this provider, by what it starts with.
    pub(crate) fn knows(&self, stored: &[u8]) -> bool {
        match self {
            Self::Identity => !stored.starts_with(MARK),
            Self::Key { prefix, .. } => stored.starts_with(prefix),
            Self::Kms(kms) => stored.starts_with(kms.prefix()),
        }
    }

    /// Whether a stored value is as this provider would write it now.
    pub(crate) fn is_fresh(&self, stored: &[u8]) -> bool {
        match self {
            Self::Kms(kms) => self.knows(stored) && kms.is_of_now(stored),
            _ => self.knows(stored),
        }
    }

    /// The value that a stored form of this provider stands for.
    pub(crate) fn decrypt(&self, stored: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Identity => Ok(stored.to_vec()),
            Self::Key { prefix, cipher } => cipher.decrypt(&stored[prefix.len()..], place),
            Self::Kms(kms) => kms.decrypt(stored, place),
        }
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| Failure::NoRandom)
}

/// The key has one of the three lengths: it was checked when it was read.
fn cbc_encrypt(key: &[u8], iv: &[u8; BLOCK], plain: &[u8]) -> Vec<u8> {
    let sized = "the length of the key was checked";
    match key.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
            .expect(sized)
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
        24 => cbc::Encryptor::<Aes192>::new_from_slices(key, iv)
            .expect(sized)
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
        _ => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .expect(sized)
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
    }
}

fn cbc_decrypt(key: &[u8], iv: &[u8; BLOCK], sealed: &[u8]) -> Option<Vec<u8>> {
    match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .ok(),
        24 => cbc::Decryptor::<Aes192>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .ok(),
        _ => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .ok(),
    }
}
