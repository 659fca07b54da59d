//! The group `storagemigration.k8s.io`.

pub mod storageversionmigration;
