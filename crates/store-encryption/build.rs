//! Makes the messages, client and server of key management services.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/kms.proto"], &["proto"])
}
