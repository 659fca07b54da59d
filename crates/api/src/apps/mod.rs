//! The group `apps`.

pub mod deployment;
pub mod replicaset;
mod selector;

#[cfg(test)]
mod tests;
