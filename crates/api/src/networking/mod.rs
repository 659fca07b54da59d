//! The group `networking.k8s.io`.

pub mod ingress;
pub mod ingressclass;
pub mod networkpolicy;

#[cfg(test)]
mod tests;
