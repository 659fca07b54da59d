//! Webhooks to try a cluster with, built on kube-rs and nothing of the cluster's own.
//!
//! `operator` is a whole operator: it defines the kind `Shout` in two versions, converts between them, has its say when
//! one is written, and its elected leader makes a ConfigMap of each. `hooks` is a server of admission webhooks whose paths say what
//! they answer; it writes down what it was asked.

mod hooks;
mod install;
mod reconcile;
mod reviews;
mod shout;
mod tls;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::tls::Keys;

#[derive(Parser)]
#[command(about = "An operator, and webhooks")]
struct Cli {
    #[command(subcommand)]
    application: Application,
}

#[derive(Subcommand)]
enum Application {
    /// Runs the operator.
    Operator {
        /// Port of its webhooks.
        #[arg(long, default_value_t = 8443)]
        port: u16,
        /// The service that leads to that port.
        #[arg(long, default_value = "operator")]
        service: String,
        /// Its namespace.
        #[arg(long, env = "NAMESPACE")]
        namespace: String,
        /// Name of this replica.
        #[arg(long, env = "NAME")]
        name: String,
    },
    /// Answers admission reviews as their paths say.
    Hooks {
        /// Port to listen on.
        #[arg(long, default_value_t = 8443)]
        port: u16,
        /// Names and addresses that the certificate is for.
        #[arg(long, value_delimiter = ',')]
        hosts: Vec<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().application {
        Application::Hooks { port, hosts } => {
            let keys = Keys::make(&hosts)?;
            println!("{}", hooks::first_line(&keys));
            tls::serve(port, &keys, hooks::answer).await
        }
        Application::Operator {
            port,
            service,
            namespace,
            name,
        } => {
            let client = Client::try_default().await.context("no API server")?;
            operate(client, port, &service, &namespace, &name).await
        }
    }
}

/// Serves from the beginning; leads when it is elected.
async fn operate(
    client: Client,
    port: u16,
    service: &str,
    namespace: &str,
    name: &str,
) -> anyhow::Result<()> {
    let keys = install::keys(&client, namespace, service).await?;
    let webhooks = tls::serve(port, &keys, reviews::answer);
    let mut terminated = signal(SignalKind::terminate())?;
    let shutdown = async move {
        terminated.recv().await;
    };
    let work = async {
        install::definition(&client, &keys, namespace, service).await?;
        install::webhooks(&client, &keys, namespace, service).await?;
        reconcile::lead(client.clone(), namespace, name, shutdown).await
    };
    tokio::select! {
        ended = webhooks => ended,
        ended = work => ended,
    }
}
