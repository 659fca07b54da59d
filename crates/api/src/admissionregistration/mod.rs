//! The group `admissionregistration.k8s.io`: who else has a say in what is written.

pub mod binding;
mod expressions;
mod matching;
pub mod mutatingadmissionpolicy;
pub mod validatingadmissionpolicy;
pub mod webhook;

pub use expressions::match_conditions;
pub use matching::{default_match_resources, rule};

#[cfg(test)]
mod tests;
