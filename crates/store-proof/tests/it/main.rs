//! The store's proofs that need an engine of its own kind: files, servers, an etcd cluster.

mod cluster;
mod etcdctl;
mod kills;
mod security;
mod suite;
