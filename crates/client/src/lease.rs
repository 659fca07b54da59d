//! Leases: saying from time to time that one is still there.
//!
//! Behaviour: `k8s.io/component-helpers/apimachinery/lease`. One of the few clocks of an idle cluster.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};

/// A lease to be kept.
#[derive(Clone)]
pub struct Keep {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// For how long others may rely on the last renewal.
    pub duration_seconds: i32,
    /// How often it is renewed.
    pub every: Duration,
    /// The object the lease goes away with.
    pub owner: Option<OwnerReference>,
}

/// Renewals in a row that may fail before the pause is the regular one again.
const QUICK_TRIES: u32 = 5;

/// Creates the lease or takes it over, and renews it until the task is dropped.
pub async fn keep(client: Client, keep: Keep) {
    let api: Api<Lease> = Api::namespaced(client, &keep.namespace);
    let mut known: Option<Lease> = None;
    let mut failures = 0;
    loop {
        match renew(&api, &keep, known.take()).await {
            Ok(lease) => {
                known = Some(lease);
                failures = 0;
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(lease = keep.name, %error, "the lease was not renewed");
            }
        }
        let pause = match failures {
            0 => keep.every,
            n if n <= QUICK_TRIES => Duration::from_millis(200 << n.min(5)).min(keep.every),
            _ => keep.every,
        };
        tokio::time::sleep(pause).await;
    }
}

/// One renewal: an update of what is known, or of what is found when nothing is; a creation when nothing is there.
async fn renew(api: &Api<Lease>, keep: &Keep, known: Option<Lease>) -> Result<Lease, kube::Error> {
    let found = match known {
        Some(lease) => Some(lease),
        None => api.get_opt(&keep.name).await?,
    };
    let parameters = PostParams::default();
    match found {
        Some(lease) => {
            api.replace(&keep.name, &parameters, &renewed(keep, lease))
                .await
        }
        None => {
            api.create(&parameters, &renewed(keep, Lease::default()))
                .await
        }
    }
}

fn renewed(keep: &Keep, mut lease: Lease) -> Lease {
    let mut metadata: ObjectMeta = std::mem::take(&mut lease.metadata);
    metadata.name = Some(keep.name.clone());
    metadata.namespace = Some(keep.namespace.clone());
    metadata.managed_fields = None;
    if let Some(owner) = &keep.owner {
        metadata.owner_references = Some(vec![owner.clone()]);
    }
    let spec = LeaseSpec {
        holder_identity: Some(keep.holder.clone()),
        lease_duration_seconds: Some(keep.duration_seconds),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..lease.spec.take().unwrap_or_default()
    };
    Lease {
        metadata,
        spec: Some(spec),
    }
}
