//! The kubelet: makes the pods bound to its node run, over any CRI runtime, and tells the API how they are.
//!
//! What a pod needs next is decided in `pod-lifecycle`; here it is carried out. One task per pod observes, decides and
//! acts ([`worker`]), woken by the API, by container events, by probes and by its own timer; nothing polls. Everything is
//! rebuilt from runtime and API when the process starts: running containers never notice.
//!
//! Not here: running containers (`cri` is the boundary), pod addresses, service rules.
//!
//! Start with [`run`] and [`Config`]; then [`worker`].

mod cgroups;
mod cleanup;
mod config;
mod context;
mod events;
mod grpc;
mod http;
mod images;
mod logs;
mod measures;
mod node;
mod objects;
mod observe;
mod operations;
mod pods;
mod probes;
mod server;
mod static_pods;
mod status;
#[cfg(test)]
mod tests;
mod volumes;
pub mod worker;

pub use config::{Config, STATUS_EVERY, ServerConfig};
pub use pods::{Error, run};
