//! Working only while being the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use client::election::{Ended, lead};
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::flags::Election;

/// Whether this process is the leader, for health and metrics.
#[derive(Clone, Default)]
pub(super) struct Leading(Arc<AtomicBool>);

impl Leading {
    /// Is it?
    pub(super) fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does the work, at once or as the leader. `name` is the component's and that of its lease.
pub(super) async fn work<F: Future<Output = ()>>(
    client: Client,
    flags: &Election,
    (name, events): (&str, &str),
    leading: &Leading,
    shutdown: &CancellationToken,
    work: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    let stop = shutdown.child_token();
    let _stops = stop.clone().drop_guard();
    let work = async {
        leading.0.store(true, Ordering::Relaxed);
        work(stop).await;
    };
    if !flags.leader_elect {
        tokio::select! {
            () = work => bail!("{name} ended"),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    if flags.leader_elect_lease_duration <= flags.leader_elect_renew_deadline {
        bail!("leaseDuration must be greater than renewDeadline");
    }
    if flags.leader_elect_renew_deadline <= flags.leader_elect_retry_period.mul_f64(1.2) {
        bail!("renewDeadline must be greater than retryPeriod*JitterFactor");
    }
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let identity = format!("{host}_{}", uuid::Uuid::new_v4());
    let own = flags.leader_elect_resource_name.as_deref().unwrap_or(name);
    let election = client::election::Election {
        namespace: flags.leader_elect_resource_namespace.clone(),
        lease: flags.leader_elect_lease_duration,
        renew_deadline: flags.leader_elect_renew_deadline,
        retry: flags.leader_elect_retry_period,
        ..client::election::Election::new(own, identity, events)
    };
    let ended = lead(client, &election, work, shutdown.cancelled()).await;
    leading.0.store(false, Ordering::Relaxed);
    match ended {
        Ended::Shutdown => Ok(()),
        Ended::Lost => bail!("leaderelection lost"),
        Ended::Done(()) => bail!("{name} ended"),
    }
}
