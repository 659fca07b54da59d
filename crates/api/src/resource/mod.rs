//! The group `resource.k8s.io`: devices that drivers announce (ResourceSlice), kinds of them (DeviceClass), what pods ask for
//! (ResourceClaim, ResourceClaimTemplate), and what keeps pods away from devices (DeviceTaintRule).
//!
//! The scheduler allocates, drivers prepare; nothing of either is here. Fields of features that v1.37 leaves switched off are
//! dropped from what clients write, as upstream does. Start with `request.rs`, which checks what a claim asks for.

mod capacity;
pub mod deviceclass;
pub mod devicetaintrule;
mod parts;
mod request;
pub mod resourceclaim;
pub mod resourceclaimtemplate;
pub mod resourceslice;
mod selector;

const GROUP: &str = "resource.k8s.io";

#[cfg(test)]
mod tests;
