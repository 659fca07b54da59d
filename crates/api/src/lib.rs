//! The kinds: one folder per API group, one folder or file per kind, one line per kind in [`KINDS`].
//!
//! Everything that is specific to a kind stands in its module: names, scope, verbs, sub-resources, defaults, validation,
//! update rules, selectable fields, columns. Routes, discovery, OpenAPI, RBAC names, storage keys and tests are derived
//! from the table. Pure: no I/O, no clock, no randomness; what a decision needs of those arrives in [`kind::Context`].
//! Start with [`kind::Kind`], then `core/namespace.rs` as the smallest example.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod check;
pub mod columns;
pub mod coordination;
pub mod core;
mod diff;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod kind;
pub mod meta;
pub mod networking;
pub mod node;
mod nulls;
pub mod policy;
pub mod quota;
pub mod rbac;
mod registry;
pub mod resource;
pub mod scheduling;
pub mod schema;
pub mod storage;
pub mod storagemigration;
pub mod view;
pub mod visit;
mod warn;
pub mod workload;

pub use kind::{AnyKind, Context, Dependents, Kind, KindRef, Part, Scope, Subresource, Verb};
pub use registry::{BODIES, KINDS, by_kind, by_resource};

mod go;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
