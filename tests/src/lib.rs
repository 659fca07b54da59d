//! Whole clusters for tests: the real binary, real containers, the real kubectl.
//!
//! [`Cluster::shared`] gives the cluster that most tests share, each in a name-space of its own; [`Cluster::start`] makes
//! one for a test that switches it off or looks at what is left. A cluster is deleted with its last handle.
//!
//! `cargo xtask test` installs and builds what is needed and says where it is in `OXIKUBE_TEST_PROGRAMS` and
//! `OXIKUBE_TEST_TOOLS`.

mod cluster;
mod command;
mod host;

pub use cluster::{Cluster, Namespace};
pub use command::{Output, Running};
pub use host::{Host, ip, kubeconfig, words};

/// The minor versions of kubectl that every walk-through is done with.
pub const KUBECTLS: [u32; 3] = [27, 33, 36];
