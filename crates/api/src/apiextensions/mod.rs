//! `apiextensions.k8s.io`: kinds that users define, and what such a kind is to the rest of the house.

pub mod conversion;
pub mod custom;
pub mod customresourcedefinition;
