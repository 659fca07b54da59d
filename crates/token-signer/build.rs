//! Makes the messages, client and server of signers.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/externaljwt.proto"], &["proto"])
}
