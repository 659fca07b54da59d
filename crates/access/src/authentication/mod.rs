//! Users whom somebody else knows: issuers of JSON web tokens, webhooks, and the configuration that names them.
//!
//! Start with [`Configuration`]; [`Issuer::verify`] looks at a token once its issuer's [`Key`]s are at hand, and
//! [`Issuer::user_of`] makes a user of what it claims. Fetching
//! keys and asking webhooks is the server's affair.
//! Behaviour: `k8s.io/apiserver/pkg/apis/apiserver` (`AuthenticationConfiguration`), `plugin/pkg/authenticator/token`.

mod configuration;
mod jwt;
mod keys;
mod mapping;
pub mod review;

pub use configuration::{Anonymous, Configuration};
pub use jwt::{Discovery, Jwt};
pub use keys::{Key, read_keys};
pub use mapping::{ClaimSource, Issuer, Mapping, Rule};

#[cfg(test)]
mod tests;
