//! The Node authorizer: a kubelet may read what the pods on its node need, and nothing else.
//!
//! Behaviour: `plugin/pkg/auth/authorizer/node`. Start with [`Graph`], which is the authorizer too; the server feeds it
//! pods, persistent volumes, volume attachments and resource slices.

mod authorizer;
mod graph;

pub use graph::Graph;

#[cfg(test)]
mod tests;
