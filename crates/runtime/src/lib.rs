//! The embedded container runtime: the CRI's services on this node, without a daemon to install.
//!
//! [`Runtime`] implements [`cri::RuntimeService`] and [`cri::ImageService`]. It keeps no container
//! alive itself: each pod has a small process of its own, the [`shim`], which holds the pod's
//! namespaces and is the parent of its containers. Killing, restarting or upgrading the runtime
//! leaves them running; [`Runtime::open`] finds them again. Everything that must be known then lies
//! in the state directory, one directory per sandbox and container.
//!
//! Not here: what a container is ([`oci`] plans it), images ([`images`]), pod addresses
//! ([`PodNetwork`]), the protocols of exec and attach (`streaming`).
//!
//! Start with [`Runtime`]; the shim's side starts at [`shim::main`], which the program calls before
//! it has a second thread.

mod client;
mod container_plan;
mod container_status;
mod containers;
mod events;
mod exec;
mod image_service;
mod network;
mod records;
mod recover;
mod runtime_service;
mod sandboxes;
mod server;
pub mod shim;
mod stats;
mod world;

pub use network::{NetworkError, PodNetwork, PodSandboxNetwork, PortMapping};
pub use server::serve;
pub use world::{Config, Runtime};
