//! Makes the messages, clients and servers of the etcd v3 API.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/rpc.proto"], &["proto"])
}
