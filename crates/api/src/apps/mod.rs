//! The group `apps`.

pub mod controllerrevision;
pub mod daemonset;
pub mod deployment;
pub mod replicaset;
mod selector;
pub mod statefulset;

#[cfg(test)]
mod tests;
