//! The group `rbac.authorization.k8s.io`: roles, and who has them.
//!
//! Upstream: `pkg/registry/rbac`, `pkg/apis/rbac/validation`.

pub mod binding;
pub mod role;

/// The group's name.
pub const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
