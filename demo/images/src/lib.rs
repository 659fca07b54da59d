//! Container images made from this machine's own files: a program with the libraries it needs, busybox, a few lines of
//! configuration. For the demo and for tests; no registry and no container engine is involved.
//!
//! [`Image`] collects files, [`Image::build`] gives the blobs, [`Built::archive`] writes them as an OCI layout in a tar
//! archive (`oxikube image load` takes it).

mod files;
mod image;
pub mod samples;

pub use image::{Built, Image};
