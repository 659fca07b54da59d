//! What a decision about an object may know beyond the object.

use std::sync::Arc;

use jiff::Timestamp;

/// Who asks, beyond the name.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// Tells apart users of one name over time.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// What else the requester would have to be allowed, for a decision that depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What stands before the verb of the request, as `arbitrary-node:`.
    pub verb_prefix: &'a str,
    /// A sub-resource of the resource of the request; it need not exist.
    pub subresource: &'a str,
    /// In the namespace of the request; otherwise in all of them.
    pub namespaced: bool,
    /// The object's name; empty: all.
    pub name: &'a str,
}

/// What a decision about an object may ask of the server. Answers come from memory.
pub trait Surroundings: Send + Sync {
    /// The verb of the request.
    fn verb(&self) -> &str;
    /// A label of a namespace.
    fn namespace_label(&self, namespace: &str, label: &str) -> Option<String>;
    /// Whether the requester may do something else as well.
    ///
    /// # Errors
    /// The words of the refusal.
    fn may(&self, ask: Ask<'_>) -> Result<(), String>;
    /// Whether the requester has this right on a signer of certificates, or on all of its domain.
    fn may_for_signer(&self, verb: &str, signer: &str) -> bool;
}

/// No server around: objects that are looked at outside of one, such as pods that a kubelet reads from files.
#[derive(Clone, Copy, Debug)]
pub struct NoServer;

impl Surroundings for NoServer {
    fn verb(&self) -> &str {
        "create"
    }

    fn namespace_label(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn may(&self, _: Ask<'_>) -> Result<(), String> {
        Err("there is no API server to ask".to_owned())
    }

    fn may_for_signer(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// What a decision about an object may know beyond the object.
#[derive(Clone)]
pub struct Context {
    /// The time of the request.
    pub now: Timestamp,
    /// Who asks (a user name), for kinds that note it.
    pub user: String,
    /// What else is known of who asks.
    pub requester: Requester,
    /// The server around the decision.
    pub surroundings: Arc<dyn Surroundings>,
}
