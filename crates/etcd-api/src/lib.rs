//! The etcd v3 API: its messages, a client and a server for each of its services.
//!
//! What it is: what the protocol compiler makes of `proto/`. What it is not: no behaviour stands
//! here; `etcd-store` is a client of it and `etcd-serve` a server.
//!
//! Where to start: `proto/rpc.proto`.

/// Keys, values and events.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated from the protocol's description"
)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Requests, answers and services.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated from the protocol's description"
)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
