//! What a service's seed or key does to values. Behaviour: `.../storage/value/encrypt/aes/aes_extended_nonce.go`.

use ring::hkdf::{HKDF_SHA256, KeyType, Prk};

use crate::provider::{Cipher, Failure, random};

const SEED: usize = 32;
/// The random bytes by which a value's key differs from all others of the seed.
const INFO: usize = 32;

/// A seed or a key.
pub(super) enum Seal {
    Seed(Prk),
    Key(Cipher),
}

/// A key of 256 bits.
struct Whole;

impl KeyType for Whole {
    fn len(&self) -> usize {
        32
    }
}

impl Seal {
    /// A new seed; none when the system gives no random numbers.
    pub(super) fn new_seed() -> Option<[u8; SEED]> {
        random().ok()
    }

    pub(super) fn seed(seed: &[u8]) -> Self {
        Self::Seed(Prk::new_less_safe(HKDF_SHA256, seed))
    }

    /// A key as it is; none when it has the length of none.
    pub(super) fn key(key: &[u8]) -> Option<Self> {
        Cipher::new("aesgcm", key).ok().map(Self::Key)
    }

    fn derived(seed: &Prk, info: &[u8]) -> Result<Cipher, Failure> {
        let mut key = [0; 32];
        let filled = seed
            .expand(&[info], Whole)
            .and_then(|okm| okm.fill(&mut key));
        filled.map_err(|_| Failure::NoKey)?;
        Cipher::new("aesgcm", &key).map_err(|_| Failure::NoKey)
    }

    pub(super) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Key(cipher) => cipher.encrypt(plain, place),
            Self::Seed(seed) => {
                let info: [u8; INFO] = random()?;
                let sealed = Self::derived(seed, &info)?.encrypt(plain, place)?;
                Ok([&info[..], &sealed].concat())
            }
        }
    }

    pub(super) fn decrypt(&self, data: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Key(cipher) => cipher.decrypt(data, place),
            Self::Seed(seed) => {
                let (info, sealed) = data.split_at_checked(INFO).ok_or(Failure::Forged)?;
                Self::derived(seed, info)?.decrypt(sealed, place)
            }
        }
    }
}
