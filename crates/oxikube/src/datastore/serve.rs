//! `oxikube store serve`: the store alone, behind etcd's API, in a process of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use etcd_serve::Listener;
use store::embedded::{Engine, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{attend, read_file};

/// How it is served.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:2379")]
    listen: String,
    /// The certificate to show, PEM.
    #[arg(long, requires_all = ["key_file", "client_ca_file"])]
    cert_file: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Who signs the certificates of clients, PEM: each of them may read and write everything.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// Let everybody in who can connect, without a certificate; loopback only.
    #[arg(long, conflicts_with = "cert_file")]
    open_to_all: bool,
    /// Keep all files small, so that tests see many of them.
    #[arg(long, hide = true)]
    small_files: bool,
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}"))
}

/// A listener for clients with a certificate.
pub(super) async fn tls_listener(
    address: &str,
    certificate: &Path,
    key: &Path,
    authority: &Path,
) -> anyhow::Result<Listener> {
    Ok(Listener::Tls {
        listener: bind(address).await?,
        identity: (read_file(certificate)?, read_file(key)?),
        client_authority: read_file(authority)?,
    })
}

/// Serves until the process is told to end.
pub(super) fn run(dir: &Path, args: &ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(dir, args))
}

async fn serve(dir: &Path, args: &ServeArgs) -> anyhow::Result<()> {
    let options = match args.small_files {
        true => Options {
            segment_bytes: 64 << 10,
            checkpoint_bytes: 128 << 10,
            checkpoint_chunk_bytes: 16 << 10,
            history_revisions: 2_000_000,
            history_bytes: 256 << 10,
            ..Options::default()
        },
        false => Options::default(),
    };
    let files = (&args.cert_file, &args.key_file, &args.client_ca_file);
    let (listener, said) = match files {
        (Some(certificate), Some(key), Some(authority)) => {
            let listener = tls_listener(&args.listen, certificate, key, authority).await?;
            (listener, format!("https://{}", args.listen))
        }
        _ if args.open_to_all => {
            let listener = bind(&args.listen).await?;
            let address = listener.local_addr()?;
            if !address.ip().is_loopback() {
                bail!("{address} is not loopback: clients elsewhere need certificates");
            }
            (Listener::Open(listener), format!("http://{address}"))
        }
        _ => bail!("say --cert-file, --key-file and --client-ca-file, or --open-to-all"),
    };
    let engine = Engine::open(dir, options)?;
    attend::attend(dir, engine.clone())?;
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = async move {
        tokio::select! {
            _ = end.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut out = std::io::stdout();
    writeln!(out, "serving on {said}")?;
    out.flush()?;
    tokio::select! {
        served = etcd_serve::serve(engine.clone(), listener, std::future::pending()) => served?,
        () = ended => {}
    }
    engine.close();
    Ok(())
}
