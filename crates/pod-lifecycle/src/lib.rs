//! What a pod on this node needs next: the kubelet's decisions, without the kubelet.
//!
//! [`next`] looks at one pod as the API wants it and as the container runtime has it, and answers with the actions to carry
//! out now, the status to publish and the time to look again. Around it stand the other pure parts of running a pod: the
//! environment of a container ([`env`]), its resources and cgroups ([`resources`], [`qos`]), its security context
//! ([`security`]), its names ([`dns`], [`hosts`]), the files of its volumes ([`payload`], [`trust`], [`pod_certificate`]), the CRI
//! configuration made of all that ([`config`]) and whether the node takes the pod at all ([`admission`]).
//!
//! Not here: no clock, no I/O, no runtime; the `kubelet` crate has them. Time comes in as [`PodView::now`].
//!
//! Start with [`next`] and [`PodView`].

pub mod admission;
pub mod backoff;
pub mod conditions;
pub mod config;
pub mod containers;
pub mod dns;
pub mod env;
pub mod field_path;
pub mod hosts;
pub mod image;
pub mod memory;
mod next;
pub mod payload;
pub mod plan;
pub mod pod;
pub mod pod_certificate;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod resize;
pub mod resources;
pub mod restart;
pub mod security;
pub mod service_env;
mod status;
#[cfg(test)]
mod tests;
pub mod trust;
pub mod view;

pub use memory::Memory;
pub use next::next;
pub use plan::{Action, Event, Plan};
pub use view::PodView;
