//! Connections through the server: to kubelets (logs, exec, attach, port-forward), pods, services and nodes.
//!
//! Contract: the client's credentials never travel on; redirects are never followed; an upgrade that the far end does
//! not agree to ends both connections (security lessons 2018-1002105, 2018-1002102, 2020-8559, 2022-3172).

pub(crate) mod client;
pub(crate) mod health;
pub(crate) mod kubelet;
mod links;
mod options;
pub(crate) mod proxy;
mod target;
pub(crate) mod websocket;
