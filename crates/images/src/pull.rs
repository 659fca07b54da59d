//! Pulling images from registries: being written right now, by somebody else than the rest of this crate.
//!
//! It will be `Store::pull(&self, reference: &oci::Reference, options: &PullOptions, credentials: Option<Credentials>)`
//! with: HTTPS for ordinary registries, plain HTTP for those on loopback and those listed; mirrors; indexes narrowed to this
//! machine's platform; every blob checked against its digest and size while it streams into `partial/`; a dialer that opens
//! connections in another network namespace; credentials that go to the registry alone.

/// Credentials.
#[derive(Clone, Debug, Default)]
pub struct Credentials;
/// Dialer.
#[derive(Clone, Debug, Default)]
pub struct Dialer;
/// Options.
#[derive(Clone, Debug, Default)]
pub struct PullOptions;
