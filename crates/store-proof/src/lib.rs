//! What proves the store, on every engine there is.
//!
//! What it is: [`suite`], the contract as tests; [`workload`], clients that write, read and watch
//! at the same time and record what they were told; [`history`], the checker of such records; the
//! harnesses that break things meanwhile, [`kill`] for the real process and [`etcd`] for a real
//! etcd cluster; [`files`], a second look at simulated disks;
//! [`bench`], the figures. The program of the same name runs
//! any number of simulated lives or kills.
//!
//! What it is not: a part of the product. Nothing but tests, benchmarks and chores depends on it.
//!
//! Where to start: the laws in [`history`].

pub mod bench;
pub mod etcd;
pub mod files;
pub mod history;
pub mod kill;
pub mod suite;
pub mod workload;
