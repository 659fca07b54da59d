//! How pods of one node reach pods of another: from the nodes of the cluster to routes, neighbours and tunnel ends.
//!
//! The ways are flannel's, and so are the words in which nodes tell each other about them (annotations of the `Node`), so
//! that a node with flannel and one with oxikube understand each other: VXLAN (VNI 1, port 8472), plain routes for nodes
//! on one link (`host-gw`), and raw IP packets in UDP (port 8285).
//!
//! What a node says about itself is not trusted: it is used only after [`lease::read`] has looked at it, and never for more
//! than the addresses of its own pods.
//!
//! Start with [`plan()`]. Not here: the kernel (`pod-network` carries plans out), who gets which addresses (`nodeipam`).

mod backend;
pub mod lease;
mod packet;
mod plan;
#[cfg(test)]
mod tests;

pub use backend::{Backend, UnknownBackend};
pub use lease::{Lease, Mac};
pub use packet::{destination, source};
pub use plan::{Change, Own, Peers, Picture, Via, diff, plan};

/// The number of the virtual network of all nodes.
pub const VNI: u32 = 1;
/// Where VXLAN packets are received.
pub const VXLAN_PORT: u16 = 8472;
/// Where packets in UDP are received.
pub const UDP_PORT: u16 = 8285;
