//! The Linux kernel behind a small safe API: every `unsafe` block and every raw system call of the
//! workspace is here.
//!
//! Each module wraps one thing the kernel does: [`mount`] (mounts held as file descriptors),
//! [`path`] (names resolved inside a directory and nowhere else), [`namespace`], [`process`] (fork,
//! exec, process file descriptors), [`credentials`], [`cgroup`] (versions 1 and 2 behind one type),
//! [`device_filter`], [`socket`] (messages that carry descriptors), [`terminal`], [`signal`],
//! [`seccomp`], [`interface`], [`tun`], [`memory`], [`allocator`], [`own`] (what the kernel says of this process).
//!
//! Not here: any opinion about containers. What is to be mounted, limited or dropped is decided by
//! callers.
//!
//! Every function that changes the calling process says so. Descriptors are close-on-exec unless
//! said otherwise.

#![allow(
    unsafe_code,
    reason = "this crate exists to keep unsafe code in one place; each block says why it is sound"
)]

pub mod allocator;
pub mod arp;
pub mod cgroup;
pub mod credentials;
pub mod device_filter;
mod error;
pub mod interface;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod own;
pub mod path;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod tun;

pub use error::{Context, Error, Result};
