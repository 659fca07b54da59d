//! Leader election: of several processes that want to do the same work, one does it.
//!
//! The leader's name stands in a Lease that it renews; who does not renew in time has lost and stops at once, before
//! anybody else may begin. The others watch the lease (they do not poll) and one of them takes it over when it has not
//! changed for its whole duration on their own clocks: clocks are never compared. Behaviour, names and numbers:
//! client-go's `tools/leaderelection`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::events::{Event, EventType, Recorder};
use crate::watch::{Change, store};

/// What is being elected for, and the patience of all sides.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// This candidate; no two are alike.
    pub identity: String,
    /// The component of the events.
    pub component: String,
    /// How long others wait for the leader to renew.
    pub lease: Duration,
    /// How long the leader tries to renew before it gives up; less than `lease`.
    pub renew_deadline: Duration,
    /// The pause between tries.
    pub retry: Duration,
}

impl Election {
    /// With upstream's numbers, in `kube-system`.
    pub fn new(name: &str, identity: String, component: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity,
            component: component.to_owned(),
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// How leading came to its end.
#[derive(Debug)]
pub enum Ended<T> {
    /// Somebody else leads, or may soon: the work was stopped.
    Lost,
    /// The work ended by itself.
    Done(T),
    /// The process was told to end; the lease was given back if it was held.
    Shutdown,
}

/// Waits to become the leader, then does the work for as long as it is.
pub async fn lead<T>(
    client: Client,
    election: &Election,
    work: impl Future<Output = T>,
    shutdown: impl Future<Output = ()>,
) -> Ended<T> {
    let api: Api<Lease> = Api::namespaced(client.clone(), &election.namespace);
    let recorder = Recorder::start(client, &election.component, "");
    let mut shutdown = pin!(shutdown);
    tracing::info!(lease = election.name, "waiting to become the leader");
    let held = tokio::select! {
        lease = acquire(&api, election) => lease,
        () = &mut shutdown => return Ended::Shutdown,
    };
    tracing::info!(
        lease = election.name,
        identity = election.identity,
        "became the leader"
    );
    let tell = |what: &str| recorder.record(event(election, &held, what));
    tell("became leader");
    let ended = tokio::select! {
        () = renew(&api, election, held.clone()) => Ended::Lost,
        done = work => Ended::Done(done),
        () = &mut shutdown => Ended::Shutdown,
    };
    tell("stopped leading");
    match &ended {
        Ended::Lost => tracing::error!(lease = election.name, "lost the lease, stopping at once"),
        _ => release(&api, election).await,
    }
    ended
}

fn event(election: &Election, lease: &Lease, what: &str) -> Event {
    Event {
        about: ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(election.namespace.clone()),
            name: Some(election.name.clone()),
            uid: lease.metadata.uid.clone(),
            resource_version: lease.metadata.resource_version.clone(),
            field_path: None,
        },
        event_type: EventType::Normal,
        reason: "LeaderElection".to_owned(),
        action: String::new(),
        message: format!("{} {what}", election.identity),
    }
}

/// Waits until the lease is free, and takes it.
async fn acquire(api: &Api<Lease>, election: &Election) -> Lease {
    let own = watcher::Config::default().fields(&format!("metadata.name={}", election.name));
    let (_reader, changes) = store(api.clone(), own);
    acquire_from(api, election, changes).await
}

async fn acquire_from(
    api: &Api<Lease>,
    election: &Election,
    changes: impl Stream<Item = Change<Lease>>,
) -> Lease {
    let mut changes = pin!(changes);
    let mut seen = Seen {
        // However slow the first list is, the lease is looked at by then.
        patience: Some(Instant::now() + election.renew_deadline),
        ..Seen::default()
    };
    loop {
        let due = seen.free_at();
        tokio::select! {
            change = changes.next() => match change {
                Some(change) => seen.note(change, Instant::now()),
                None => std::future::pending().await,
            },
            () = until(due) => {
                let taking = take(api, election, seen.lease.as_ref());
                match tokio::time::timeout(election.renew_deadline, taking).await {
                    Ok(Ok(lease)) => return lease,
                    Ok(Err(error)) => tracing::debug!(%error, "the lease could not be taken"),
                    Err(_) => tracing::debug!("the lease could not be taken in time"),
                }
                // Whoever was faster shows in the watch, unless that has fallen silent; nobody hurries.
                let looking = api.get_opt(&election.name);
                if let Ok(Ok(found)) = tokio::time::timeout(election.renew_deadline, looking).await {
                    seen.found(found, Instant::now());
                }
                seen.not_before = Some(Instant::now() + jittered(election.retry));
            }
        }
    }
}

/// Candidates that lost the same race do not meet again.
fn jittered(pause: Duration) -> Duration {
    let nanos = Timestamp::now().subsec_nanosecond().unsigned_abs();
    pause.mul_f64(1.0 + 1.2 * f64::from(nanos % 1_000_000) / 1_000_000.0)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The lease as it was last seen, and when by our own clock.
#[derive(Default)]
struct Seen {
    lease: Option<Lease>,
    changed: Option<Instant>,
    synced: bool,
    patience: Option<Instant>,
    not_before: Option<Instant>,
}

impl Seen {
    fn note(&mut self, change: Change<Lease>, now: Instant) {
        match change {
            Change::Applied { new, .. } => {
                let same = self.lease.as_ref().is_some_and(|old| old.spec == new.spec);
                if !same {
                    self.changed = Some(now);
                }
                self.lease = Some(Lease::clone(&new));
            }
            Change::Deleted(_) => (self.lease, self.changed) = (None, Some(now)),
            Change::Synced => {
                self.synced = true;
                self.changed.get_or_insert(now);
            }
        }
    }

    /// A direct look has shown this.
    fn found(&mut self, lease: Option<Lease>, now: Instant) {
        self.synced = true;
        match lease {
            Some(lease) => {
                let (new, old) = (Arc::new(lease), None);
                self.note(Change::Applied { new, old }, now);
            }
            None => (self.lease, self.changed) = (None, Some(now)),
        }
    }

    /// When the lease may be taken.
    fn free_at(&self) -> Option<Instant> {
        let Some(changed) = self.changed.filter(|_| self.synced) else {
            return self.not_before.max(self.patience);
        };
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        let wait = match (holder.unwrap_or_default(), spec) {
            ("", _) | (_, None) => 0,
            (_, Some(spec)) => spec.lease_duration_seconds.unwrap_or(0),
        };
        let free = changed + Duration::from_secs(u64::try_from(wait).unwrap_or(0));
        Some(self.not_before.map_or(free, |at| at.max(free)))
    }
}

fn record(election: &Election, old: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let own = old.filter(|o| o.holder_identity.as_deref() == Some(election.identity.as_str()));
    let transitions = old.and_then(|o| o.lease_transitions).unwrap_or(0);
    let (acquired, transitions) = match (own, old) {
        (Some(own), _) => (own.acquire_time.clone(), transitions),
        (None, Some(_)) => (None, transitions + 1),
        (None, None) => (None, 0),
    };
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.lease.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..old.cloned().unwrap_or_default()
    }
}

async fn take(
    api: &Api<Lease>,
    election: &Election,
    old: Option<&Lease>,
) -> Result<Lease, kube::Error> {
    let parameters = PostParams::default();
    match old {
        Some(old) => write(api, election, old).await,
        None => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(election.name.clone()),
                    namespace: Some(election.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(record(election, None)),
            };
            api.create(&parameters, &lease).await
        }
    }
}

/// Writes our name over what is known; anybody who was faster makes it fail.
async fn write(api: &Api<Lease>, election: &Election, old: &Lease) -> Result<Lease, kube::Error> {
    let mut lease = old.clone();
    lease.spec = Some(record(election, old.spec.as_ref()));
    lease.metadata.managed_fields = None;
    api.replace(&election.name, &PostParams::default(), &lease)
        .await
}

/// Renews until it cannot be done any more.
async fn renew(api: &Api<Lease>, election: &Election, mut held: Lease) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(election.retry).await;
        let deadline = renewed + election.renew_deadline;
        let begun = Instant::now();
        match tokio::time::timeout_at(deadline, write(api, election, &held)).await {
            Ok(Ok(lease)) => (held, renewed) = (lease, begun),
            Ok(Err(error)) => {
                let why = whole(&error);
                tracing::warn!(lease = election.name, why, "the lease was not renewed");
                let found = tokio::time::timeout_at(deadline, api.get(&election.name)).await;
                if let Ok(Ok(found)) = found {
                    let holder = found
                        .spec
                        .as_ref()
                        .and_then(|s| s.holder_identity.as_deref());
                    if holder.is_some_and(|h| !h.is_empty() && h != election.identity) {
                        return;
                    }
                    held = found;
                }
            }
            Err(_) => return,
        }
        if Instant::now() >= deadline && renewed < begun {
            return;
        }
    }
}

/// Gives the lease back, so that nobody waits for it.
async fn release(api: &Api<Lease>, election: &Election) {
    let give_back = async {
        let mut lease = api.get(&election.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(election.identity.as_str()) {
            return Ok(());
        }
        let now = MicroTime(Timestamp::now());
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        (spec.acquire_time, spec.renew_time) = (Some(now.clone()), Some(now));
        lease.metadata.managed_fields = None;
        let parameters = PostParams::default();
        api.replace(&election.name, &parameters, &lease)
            .await
            .map(drop)
    };
    match tokio::time::timeout(election.retry, give_back).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error: kube::Error = error;
            tracing::warn!(%error, "the lease could not be given back");
        }
        Err(_) => tracing::warn!("the lease could not be given back in time"),
    }
}

/// An error and what is behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
