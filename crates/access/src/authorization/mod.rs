//! Which authorizers are asked, in which order, and how one elsewhere is asked.
//!
//! [`configuration`] and [`abac`] read what the operator wrote, [`review`] makes the question and reads the answer, [`Conditions`] say
//! whether it is asked at all, and [`Asked`] lets pure decisions rest on answers that take time. Nothing here sends anything.
//! Behaviour: `k8s.io/apiserver/plugin/pkg/authorizer/webhook`, `k8s.io/apiserver/pkg/authorization/cel`.

pub mod abac;
mod asked;
mod conditions;
pub mod configuration;
pub mod review;

pub use asked::Asked;
pub use conditions::Conditions;
pub use configuration::{Configuration, FailurePolicy, Link, Webhook};

#[cfg(test)]
mod tests;
