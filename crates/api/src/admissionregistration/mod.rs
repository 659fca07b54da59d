//! The group `admissionregistration.k8s.io`: who else has a say in what is written.

pub mod webhook;

#[cfg(test)]
mod tests;
