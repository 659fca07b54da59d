//! The runtime on the real kernel, as root: pods of a busybox image that is made here. Each test
//! has a node of its own, and leaves nothing behind.

mod containers;
mod lessons;
mod node;
mod pods;
mod streams;
mod version2;
