//! `kube-scheduler`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::Parser;
use client::requests::Requests;
use scheduler::UNNAMED_SCHEDULER;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::elect::{self, Leading};
use super::flags::{Common, Election, Secure, read};
use super::health::{self, Shown};
use super::{configz, credentials};

const COMPONENT: &str = "kube-scheduler";

/// Binds pods to nodes.
#[derive(Parser)]
#[command(
    name = COMPONENT,
    args_override_self = true,
    version = "v1.37.0"
)]
pub(super) struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    secure: Secure,
    #[command(flatten)]
    election: Election,
    /// Port of HTTPS; 0: none.
    #[arg(long, default_value_t = 10259)]
    secure_port: u16,
    /// How to reach the API server, and as whom.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API server, instead of the one in the kubeconfig.
    #[arg(long)]
    master: Option<String>,
    /// A file with a KubeSchedulerConfiguration.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Requests a second; they are not limited here.
    #[arg(long)]
    kube_api_qps: Option<f64>,
    /// Requests at once; they are not limited here.
    #[arg(long)]
    kube_api_burst: Option<u32>,
}

impl super::Flags for Flags {
    fn common(&self) -> &Common {
        &self.common
    }

    const DEPRECATED: &'static [(&'static str, &'static str)] = &[
        (
            "kube-api-qps",
            "This parameter is ignored: requests are not limited on the client's side.",
        ),
        (
            "kube-api-burst",
            "This parameter is ignored: requests are not limited on the client's side.",
        ),
    ];
}

/// The part of a KubeSchedulerConfiguration that means something here; anything else is refused.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    client_connection: Connection,
    #[serde(default)]
    leader_election: Leader,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Connection {
    kubeconfig: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Leader {
    leader_elect: Option<bool>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
    resource_lock: Option<String>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    #[serde(default)]
    scheduler_name: Option<String>,
}

impl Configuration {
    fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        use anyhow::{Context, bail};
        let text = read(path)?;
        let read: Self = serde_saphyr::from_str(&text)
            .with_context(|| format!("cannot use {}", path.display()))?;
        if read.kind != "KubeSchedulerConfiguration"
            || read.api_version != "kubescheduler.config.k8s.io/v1"
        {
            let (kind, version) = (&read.kind, &read.api_version);
            bail!("no kind {kind:?} is registered for version {version:?}");
        }
        if read.profiles.len() > 1 {
            bail!("one profile at most");
        }
        Ok(read)
    }

    fn apply(self, election: &mut Election) -> anyhow::Result<(Option<PathBuf>, Option<String>)> {
        let leader = self.leader_election;
        let duration = |text: Option<String>, slot: &mut std::time::Duration| {
            if let Some(text) = text {
                *slot = super::flags::duration(&text).map_err(anyhow::Error::msg)?;
            }
            anyhow::Ok(())
        };
        election.leader_elect = leader.leader_elect.unwrap_or(election.leader_elect);
        duration(
            leader.lease_duration,
            &mut election.leader_elect_lease_duration,
        )?;
        duration(
            leader.renew_deadline,
            &mut election.leader_elect_renew_deadline,
        )?;
        duration(leader.retry_period, &mut election.leader_elect_retry_period)?;
        if leader.resource_lock.is_some_and(|lock| lock != "leases") {
            anyhow::bail!("leaderElection.resourceLock: only leases are supported");
        }
        if let Some(name) = leader.resource_name {
            election.leader_elect_resource_name = Some(name);
        }
        if let Some(namespace) = leader.resource_namespace {
            election.leader_elect_resource_namespace = namespace;
        }
        let name = self
            .profiles
            .into_iter()
            .next()
            .and_then(|p| p.scheduler_name);
        Ok((self.client_connection.kubeconfig, name))
    }
}

/// The page at `/configz`.
fn configuration(flags: &Flags, kubeconfig: &Path, name: &str) -> Value {
    let plugins = scheduler::plugins();
    let plugins = plugins.map(|(name, weight)| json!({"name": name, "weight": weight}));
    let (first, longest) = scheduler::BACKOFF;
    json!({
        "kind": "KubeSchedulerConfiguration",
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "leaderElection": configz::election(&flags.election, COMPONENT),
        "clientConnection": configz::connection(kubeconfig),
        // Every node is looked at.
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": first.as_secs(),
        "podMaxBackoffSeconds": longest.as_secs(),
        "profiles": [{
            "schedulerName": name,
            "plugins": {"multiPoint": {"enabled": plugins.collect::<Vec<_>>()}},
        }],
    })
}

/// Runs until `shutdown`.
pub(super) async fn serve(mut flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (in_file, name) = match &flags.config {
        Some(path) => Configuration::read(path)?.apply(&mut flags.election)?,
        None => (None, None),
    };
    let name = name.unwrap_or_else(|| UNNAMED_SCHEDULER.to_owned());
    let path = credentials::required(flags.kubeconfig.as_ref(), in_file.as_ref())?;
    let configuration = configuration(&flags, path, &name);
    let config = credentials::config(COMPONENT, path, flags.master.as_deref()).await?;
    let requests = Requests::default();
    let client = requests.client(config)?;
    let leading = Leading::default();
    let figures: Arc<OnceLock<scheduler::Metrics>> = Arc::default();
    let shown_figures = Arc::clone(&figures);
    let shown = Shown {
        component: COMPONENT,
        port: flags.secure_port,
        leading: Some(leading.clone()),
        // There are figures from when this process leads.
        metrics: Box::new(move || {
            let figures = shown_figures.get().map(scheduler::Metrics::render);
            figures.unwrap_or_default() + &requests.render()
        }),
        checks: vec![
            health::election(&["healthz", "readyz"]),
            health::ping(&["livez"]),
            health::stays(&shutdown),
        ],
        flags: flags.common.told(),
        configuration: (configz::SCHEDULER, configuration),
    };
    health::serve(&flags.secure, shown).await?;
    let works = client.clone();
    let names = (COMPONENT, name.as_str());
    elect::work(client, &flags.election, names, &leading, &shutdown, |_| {
        let tell = move |metrics| {
            let _ = figures.set(metrics);
        };
        scheduler::run_told(works, &name, tell)
    })
    .await
}
