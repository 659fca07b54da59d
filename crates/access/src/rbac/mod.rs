//! Role-based access control: an index over the four kinds, and the rules about who may write them.
//!
//! Behaviour: `plugin/pkg/auth/authorizer/rbac`, `pkg/registry/rbac`. Start with [`Index`].

mod escalation;
mod index;
pub mod rule;

pub(crate) use escalation::only_collector_fields;
pub use escalation::{check_write, is_policy};
pub use index::Index;

/// The API group of the four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
