//! The oxikube binary: makes clusters on this machine, and is everything that runs inside them.
//!
//! On the outside: `start`, `stop`, `delete`, `status`, `list`, `node`, `image`, `kubectl`, `why`. On the inside, started by those and
//! not by people: `init`, process 1 of a node, and `node-server`, the process with the API server, the controllers, the
//! scheduler and the kubelet in it. Only this crate knows all components; it decides nothing that they could decide.
//!
//! On machines of their own: `server` and `agent` ([`host`]), and each component for itself ([`component`]).
//!
//! Start with [`cli`], then [`start`], [`root`] (what a node sees), [`init`] and [`node`].

mod certify;
mod checks;
mod cli;
mod cluster;
mod commands;
mod component;
mod datastore;
mod encryption;
mod host;
mod init;
mod kubeconfig;
mod member;
mod network;
mod node;
mod nodes;
mod pki;
mod power;
mod progress;
mod root;
mod shell;
mod start;
mod storage_class;
mod token_signer;
mod why;
mod worker;

use std::process::ExitCode;

use linux::allocator::Cached;

#[global_allocator]
static ALLOCATOR: Cached = Cached;

fn main() -> ExitCode {
    // Two crates bring a rustls provider of their own choice unless one is installed; only this call can fail, and
    // only when it is made twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
