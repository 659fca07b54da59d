//! What a container is, decided without touching anything: image references and configurations,
//! users, capabilities, limits, system-call filters, mounts, and from all of them one
//! [`ContainerPlan`] that the runtime's shim carries out step by step.
//!
//! Pure: no files, no clock, no kernel. What can only be known inside the container's file system
//! (the user database) comes in as text, bounded by the caller.
//!
//! Start with [`ContainerPlan`] and [`plan::container`].

pub mod capabilities;
pub mod image;
pub mod limits;
pub mod plan;
pub mod reference;
pub mod seccomp;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub mod user;

pub use image::ImageConfig;
pub use plan::{ContainerPlan, Mount, PidNamespace, Propagation, Source};
pub use reference::Reference;
