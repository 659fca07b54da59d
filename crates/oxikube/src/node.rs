//! The server of a node; of the first one: API server, controllers, scheduler, kubelet, network and DNS in one process.
//!
//! Each component gets a client of its own over the in-process transport, under its own identity; none of them sees the
//! store. When this process is killed containers run on, and the next one picks them up.

pub(crate) mod api;
pub(crate) mod components;
pub(crate) mod dns;
mod extra;
pub(crate) mod ready;

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use linux::namespace::{Kind, Namespace};
use linux::process;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::Descriptors;
use crate::member::NodeConfig;
use crate::progress::{Message, Progress};
use crate::root::STATE;
use crate::worker::Tasks;
use crate::{datastore, encryption};
use components::Components;
pub(crate) use components::ended;

/// Threads that run tasks: more would idle in more memory.
const WORKERS: usize = 2;

/// Runs until the process is told to end.
pub(crate) fn run(descriptors: Descriptors) -> anyhow::Result<ExitCode> {
    let listener = descriptors.listener.map(process::inherited).transpose()?;
    let host_network = process::inherited(descriptors.host_network)?;
    let host_network = Namespace::from_fd(host_network, Kind::Network);
    let progress = descriptors.progress.map(process::inherited).transpose()?;
    let mut progress = Progress::new(progress);
    let filter = EnvFilter::try_from_env("OXIKUBE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_stack_size(apiserver::THREAD_STACK_BYTES)
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let config = NodeConfig::read(Path::new(STATE))?;
    let result = runtime.block_on(async {
        match listener {
            Some(listener) => serve(config, listener.into(), host_network, &mut progress).await,
            None => extra::serve(config, host_network, &mut progress).await,
        }
    });
    if let Err(error) = &result {
        progress.tell(&Message::Failed(format!("{error:#}")));
    }
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    config: NodeConfig,
    listener: TcpListener,
    host_network: Namespace,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let state = Path::new(STATE);
    let flags = datastore::Flags::scheduled(config.cluster.snapshots);
    let store = datastore::open(&flags, &state.join("store")).await?;
    let shutdown = CancellationToken::new();
    let encryption = encryption::OwnFlags::of_cluster(config.cluster.secrets_encryption);
    let encryption = encryption.settled(state, false)?;
    let kept = encryption.over(store.store(), &shutdown).await?;
    let pki = api::Pki::read(&state.join("pki"))?;
    let pulses = api::Pulses::default();
    let server = api::server(&config.cluster, kept, &pki, &pulses).await?;
    let mut components = Components::new(server.clone(), config, pulses, shutdown.clone());
    let tls = pki.serving()?;
    components.serve_api(listener, tls).await?;
    progress.step("the API is up");
    components.start(&pki, host_network).await?;
    let parts = vec![components.proxy_ready.clone(), components.dns_ready.clone()];
    let ready = ready::wait(components.admin(), components.config.name(), parts);
    let result = attend(ready, &mut components.tasks, progress).await;
    shutdown.cancel();
    server.leave().await;
    server.shut_down();
    store.close();
    result
}

/// Tells when the node is ready, and goes on until the process is told to end or a component ends.
async fn attend(
    ready: impl Future<Output = anyhow::Result<()>>,
    tasks: &mut Tasks,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    tokio::pin!(ready);
    let mut is_ready = false;
    loop {
        tokio::select! {
            what = &mut ready, if !is_ready => {
                what?;
                is_ready = true;
                progress.tell(&Message::Ready);
            }
            ended = tasks.join_next() => return components::ended(ended),
            _ = end.recv() => return Ok(()),
        }
    }
}
