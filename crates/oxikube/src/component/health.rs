//! Health and metrics of a component on its secure port.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use linux::own::Process;
use serde_json::Value;
use serving::{Access, Check, Endpoints, Page, Told, about};
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
    /// What must be true of it, beside what is of every component.
    pub(super) checks: Vec<Check>,
    /// Its command line.
    pub(super) flags: about::Flags,
    /// What it is configured with, and under which name `/configz` tells it.
    pub(super) configuration: (&'static str, Value),
}

/// Serves health and metrics in the background.
pub(super) async fn serve(secure: &Secure, mut shown: Shown) -> anyhow::Result<()> {
    let Some(address) = secure.address(shown.port) else {
        return Ok(());
    };
    let asks = match &secure.authentication_kubeconfig {
        Some(path) => Some(Client::try_from(
            credentials::config(shown.component, path, None).await?,
        )?),
        None => None,
    };
    let decides = match &secure.authorization_kubeconfig {
        Some(path) => Some(Client::try_from(
            credentials::config(shown.component, path, None).await?,
        )?),
        None => asks.clone(),
    };
    let authority = authority(secure, asks.as_ref()).await?;
    let endpoints = Endpoints {
        checks: std::mem::take(&mut shown.checks),
        told: Some(Told {
            component: shown.component,
            flags: std::mem::take(&mut shown.flags),
        }),
        pages: vec![configz(&shown), metrics(shown)],
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

/// That nothing stands in the way of an answer.
pub(super) fn ping(paths: &'static [&'static str]) -> Check {
    check("ping", paths, || true)
}

/// That the component is the leader or waits for its turn, which is as well.
pub(super) fn election(paths: &'static [&'static str]) -> Check {
    check("leaderElection", paths, || true)
}

/// That nobody has told the component to end.
pub(super) fn stays(shutdown: &CancellationToken) -> Check {
    let shutdown = shutdown.clone();
    check("shutdown", &["readyz"], move || !shutdown.is_cancelled())
}

/// A check of this name.
pub(super) fn check(
    name: &'static str,
    paths: &'static [&'static str],
    holds: impl Fn() -> bool + Send + Sync + 'static,
) -> Check {
    Check {
        name,
        paths,
        holds: Box::new(holds),
    }
}

fn configz(shown: &Shown) -> Page {
    let (name, configuration) = &shown.configuration;
    serving::configz::page(name, configuration, false)
}

fn metrics(shown: Shown) -> Page {
    let shown = Arc::new(shown);
    Page {
        path: "/metrics",
        media_type: "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        open: false,
        text: Box::new(move || {
            let mut out = process();
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
pub(super) fn process() -> String {
    let mut out = String::new();
    for (name, kind, help, value) in Process::read().iter().flat_map(Process::figures) {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    out
}
