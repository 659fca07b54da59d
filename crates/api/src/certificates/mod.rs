//! The group `certificates.k8s.io`.

pub mod certificatesigningrequest;
pub mod clustertrustbundle;
pub mod podcertificaterequest;
