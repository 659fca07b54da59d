//! Encryption at rest: a store over another one, whose values are encrypted as the operator says.
//!
//! What it is: [`Configuration`] reads an `EncryptionConfiguration`, [`Encrypted`] applies it: what is written is encrypted by
//! the first provider of the resource, what is read is decrypted by whichever knows it, and watches show what was meant.
//! The values are laid out as upstream lays them out, so that either side reads the other's data. Keys stand in the
//! file, or a key management service ([`kms`]) has them. What it is not: the engine below knows nothing of it, and keys of
//! the file are as safe as the file.
//! Behaviour: `k8s.io/apiserver/pkg/server/options/encryptionconfig`, `.../storage/value/encrypt`.

mod configuration;
mod encrypted;
mod kms;
mod provider;

pub use configuration::Configuration;
pub use encrypted::Encrypted;

#[cfg(test)]
mod tests;
