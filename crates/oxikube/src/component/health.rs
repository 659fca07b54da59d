//! Health and metrics of a component on its secure port.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serving::{Access, Check, Endpoints, Page};
use tokio_util::sync::CancellationToken;

use super::credentials;
use super::elect::Leading;
use super::flags::{Secure, read};

/// What a component shows of itself.
pub(super) struct Shown {
    /// Its name.
    pub(super) component: &'static str,
    /// Port of HTTPS; 0: none.
    pub(super) port: u16,
    /// Whether it leads, if that matters.
    pub(super) leading: Option<Leading>,
    /// Numbers beyond those of the process.
    pub(super) metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// Serves health and metrics in the background.
pub(super) async fn serve(
    secure: &Secure,
    shown: Shown,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = secure.address(shown.port) else {
        return Ok(());
    };
    let asks = match &secure.authentication_kubeconfig {
        Some(path) => Some(Client::try_from(credentials::config(path, None).await?)?),
        None => None,
    };
    let decides = match &secure.authorization_kubeconfig {
        Some(path) => Some(Client::try_from(credentials::config(path, None).await?)?),
        None => asks.clone(),
    };
    let authority = authority(secure, asks.as_ref()).await?;
    let endpoints = Endpoints {
        checks: checks(shown.leading.clone(), shutdown.clone()),
        pages: vec![metrics(shown)],
        access: Some(Access::new(decides)),
    };
    let serving = endpoints
        .serve_tls(address, &secure.certificate()?, &authority)
        .await?;
    tokio::spawn(serving);
    Ok(())
}

/// Who signs the certificates of callers.
async fn authority(secure: &Secure, client: Option<&Client>) -> anyhow::Result<String> {
    if let Some(file) = &secure.client_ca_file {
        return read(file);
    }
    let Some(client) = client else {
        return Ok(String::new());
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    match api.get("extension-apiserver-authentication").await {
        Ok(map) => {
            let data = map.data.unwrap_or_default();
            Ok(data.get("client-ca-file").cloned().unwrap_or_default())
        }
        Err(error) if secure.tolerates() => {
            tracing::warn!(%error, "the API server does not tell who signs its clients; nobody is known by a certificate");
            Ok(String::new())
        }
        Err(error) => Err(error).context("the API server does not tell who signs its clients"),
    }
}

fn checks(leading: Option<Leading>, shutdown: CancellationToken) -> Vec<Check> {
    let mut checks = vec![Check {
        name: "shutdown",
        paths: &["readyz"],
        holds: Box::new(move || !shutdown.is_cancelled()),
    }];
    // As upstream: healthy is also who waits for its turn.
    checks.extend(leading.map(|_| Check {
        name: "leaderElection",
        paths: &["healthz", "livez", "readyz"],
        holds: Box::new(|| true),
    }));
    checks
}

fn metrics(shown: Shown) -> Page {
    let started = Instant::now();
    let shown = Arc::new(shown);
    Page {
        path: "/metrics",
        media_type: "text/plain; version=0.0.4; charset=utf-8",
        open: false,
        text: Box::new(move || {
            let mut out = process(started);
            if let Some(leading) = &shown.leading {
                let (name, leads) = (shown.component, u8::from(leading.now()));
                let _ = writeln!(
                    out,
                    "# HELP leader_election_master_status Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease. Please make sure to group by name.\n# TYPE leader_election_master_status gauge\nleader_election_master_status{{name=\"{name}\"}} {leads}"
                );
            }
            out.push_str(&(shown.metrics)());
            (200, out)
        }),
    }
}

/// What every process says of itself.
pub(super) fn process(started: Instant) -> String {
    let mut out = String::new();
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = resident.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let bytes = resident.unwrap_or(0) * rustix::param::page_size() as u64;
    let seconds = started.elapsed().as_secs();
    let _ = write!(
        out,
        "# HELP process_resident_memory_bytes Resident memory size in bytes.\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {bytes}\n# HELP process_uptime_seconds Seconds since the process started.\n# TYPE process_uptime_seconds gauge\nprocess_uptime_seconds {seconds}\n"
    );
    out
}
