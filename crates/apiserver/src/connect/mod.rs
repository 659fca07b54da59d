//! Connections through the server: to kubelets, pods, services and nodes.

pub(crate) mod kubelet;
pub(crate) mod proxy;
