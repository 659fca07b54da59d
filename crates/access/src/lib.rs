//! Who may do what: identities, authorization, admission and the policy a cluster starts with, as pure decisions.
//!
//! Nothing here reads a socket, a file or a clock: certificates are parsed by the server, time and random suffixes arrive
//! as arguments, objects through [`Lookup`]. Start with [`User`], [`Attributes`] and [`Authorizer`]; then
//! [`rbac::Index`], [`node::Graph`], [`admission`], [`tokens`] and [`bootstrap`].

pub mod admission;
pub mod attributes;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod authorizer;
pub mod bootstrap;
pub mod eviction;
pub mod flow;
pub mod impersonation;
pub mod node;
mod p521;
pub mod pod_references;
pub mod quote;
pub mod rbac;
mod settings_file;
pub mod tokens;
pub mod user;

use std::sync::Arc;

use machinery::Object;

pub use attributes::{Attributes, FieldRequirement};
pub use authorizer::{Always, Authorizer, Decision, Privileged, Rules, Shared, Union, Verdict};
pub use user::User;

/// The cached objects a decision may look at.
///
/// Answers come from the server's own caches, so an answer may be a moment old; decisions that need the newest say so
/// by an error that makes the client try again.
pub trait Lookup {
    /// The object of this name; `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;
    /// All objects of a resource in a namespace, or everywhere when it is empty.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>>;
}
