//! The store on a real etcd v3 cluster, for more than one server; and the one door to both engines.
//!
//! What it is: [`EtcdStore`], the contract of [`store::Store`] over etcd's API. It follows all of
//! etcd's keys with one watch into a [`store::replica::Replica`], so that reads, watches,
//! bookmarks and retained history are the embedded engine's own. A transaction goes to etcd. A
//! read first asks etcd which revision is the current one (readers that wait at the same time share
//! the question) and waits until the replica has come there: it never shows an old state.
//!
//! What it is not: no consensus, no election; those are etcd's and the API's.
//!
//! Where to start: [`open`] for users of a store; `follow.rs` for how the replica keeps up,
//! `members.rs` for what happens when a member is gone.
//!
//! A write that was under way when a member or the connection went is answered with
//! [`StoreError::Unavailable`]: it may have been carried out or not, and it is never sent twice.

mod convert;
mod follow;
mod members;
mod place;
mod write;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_api::etcdserverpb::kv_client::KvClient;
use etcd_api::etcdserverpb::lease_client::LeaseClient;
use etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use etcd_api::etcdserverpb::{
    CompactionRequest, LeaseTimeToLiveRequest, RangeRequest, StatusRequest,
};
use parking_lot::Mutex;
use store::replica::{Bounds, Replica};
use store::{
    Condition, LeaseId, Range, RangeEnd, RangeResult, Revision, Store, StoreError, Txn, TxnResult,
    WatchStream,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use members::Members;
pub use place::{Opened, Place, PlaceError, open};
use write::Leases;

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// One request to one member takes no longer.
    pub request_timeout: Duration,
    /// All attempts together take no longer.
    pub patience: Duration,
    /// History older than this is given up, in etcd as well, unless somebody else does it there.
    pub compact_every: Option<Duration>,
    /// At most so many revisions are kept for watches to begin at.
    pub history_revisions: usize,
    /// And about so much memory.
    pub history_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            request_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(10),
            compact_every: Some(Duration::from_secs(5 * 60)),
            history_revisions: 100_000,
            history_bytes: 64 << 20,
        }
    }
}

/// What a client of etcd shows, and whom it trusts. All of it PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// Who signs the members' certificates; the system's authorities are not asked.
    pub authority: Vec<u8>,
    /// The client's certificate and key, where etcd asks for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why an etcd cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The endpoints or certificates are no good.
    #[error("invalid endpoint of etcd: {0}")]
    Endpoint(String),
    /// It does not answer.
    #[error("the etcd cluster does not answer")]
    Unreachable(#[source] StoreError),
}

struct Shared {
    members: Members,
    options: Options,
    replica: Replica,
    /// The revision of the replica, for those who wait for it.
    reached: watch::Sender<Revision>,
    condition: Mutex<Condition>,
    barrier: Mutex<Barrier>,
    leases: Leases,
}

/// The question for the current revision, shared by all who ask while one is under way.
#[derive(Default)]
struct Barrier {
    running: bool,
    waiting: Vec<oneshot::Sender<Result<Revision, StoreError>>>,
}

/// The store on etcd. See the crate's header.
pub struct EtcdStore {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl EtcdStore {
    /// Connects, reads everything once and follows from then on.
    pub async fn open(
        endpoints: &[String],
        tls: Option<&Tls>,
        options: Options,
    ) -> Result<Arc<EtcdStore>, OpenError> {
        let members = Members::new(endpoints, tls, &options)?;
        let (replica, revision) = follow::load(&members, &options)
            .await
            .map_err(OpenError::Unreachable)?;
        let shared = Arc::new(Shared {
            members,
            options,
            replica,
            reached: watch::Sender::new(revision),
            condition: Mutex::new(Condition::Serving),
            barrier: Mutex::default(),
            leases: Leases::default(),
        });
        let mut tasks = vec![tokio::spawn(follow::follow(shared.clone()))];
        if let Some(every) = shared.options.compact_every {
            tasks.push(tokio::spawn(follow::compact(shared.clone(), every)));
        }
        Ok(Arc::new(EtcdStore {
            shared,
            tasks: Mutex::new(tasks),
        }))
    }

    /// How long a lease of etcd still lives; nothing when it is gone.
    pub async fn lease_left(&self, lease: LeaseId) -> Result<Option<Duration>, StoreError> {
        let request = LeaseTimeToLiveRequest {
            id: lease.number() as i64,
            keys: false,
        };
        let answer = self
            .shared
            .members
            .read(|channel| async move {
                let answer = LeaseClient::new(channel).lease_time_to_live(request).await;
                answer.map(|answer| answer.into_inner())
            })
            .await?;
        Ok(u64::try_from(answer.ttl).ok().map(Duration::from_secs))
    }

    /// Ends all watches; what is asked later is answered with an error.
    pub fn close(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.shared.replica.close();
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn bounds(&self) -> Bounds {
        let age = self.options.compact_every;
        Bounds {
            age_ms: age.map_or(u64::MAX / 4, |age| age.as_millis() as u64),
            revisions: self.options.history_revisions,
            bytes: self.options.history_bytes,
        }
    }

    /// Waits until the replica shows a revision.
    async fn wait_for(&self, revision: Revision) -> Result<(), StoreError> {
        let mut reached = self.reached.subscribe();
        let wait = reached.wait_for(|reached| *reached >= revision);
        match tokio::time::timeout(self.options.patience, wait).await {
            Ok(_) => Ok(()),
            Err(_) => Err(unavailable("etcd's changes do not arrive")),
        }
    }

    async fn ask_revision(&self) -> Result<Revision, StoreError> {
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self
            .members
            .read(|channel| {
                let request = request.clone();
                async move {
                    let answer = KvClient::new(channel).range(request).await;
                    answer.map(|answer| answer.into_inner())
                }
            })
            .await?;
        Ok(convert::revision(answer.header.as_ref()))
    }

    /// The current revision of etcd, asked for after this was called.
    async fn latest(self: &Arc<Self>) -> Result<Revision, StoreError> {
        let (answer, answered) = oneshot::channel();
        let begin = {
            let mut barrier = self.barrier.lock();
            barrier.waiting.push(answer);
            !std::mem::replace(&mut barrier.running, true)
        };
        if begin {
            // A task of its own: whoever asked first may go away.
            tokio::spawn(self.clone().answer_all());
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn answer_all(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut barrier = self.barrier.lock();
                let waiting = std::mem::take(&mut barrier.waiting);
                barrier.running = !waiting.is_empty();
                waiting
            };
            if waiting.is_empty() {
                return;
            }
            let revision = self.ask_revision().await;
            for answer in waiting {
                // Who does not wait any more needs no answer.
                let _ = answer.send(revision.clone());
            }
        }
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable {
        reason: reason.into(),
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let status = self.shared.members.read(|channel| async move {
            let mut client = MaintenanceClient::new(channel);
            let status = client.status(StatusRequest {}).await?;
            Ok(status.into_inner().db_size)
        });
        Ok(u64::try_from(status.await?).unwrap_or(0))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let known = range
            .revision
            .is_some_and(|revision| revision <= self.shared.replica.revision());
        if !known {
            let latest = self.shared.latest().await?;
            self.shared.wait_for(latest).await?;
        }
        self.shared.replica.range(&range).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        write::txn(&self.shared, txn).await
    }

    async fn watch(
        &self,
        start: Bytes,
        end: RangeEnd,
        from: Revision,
    ) -> Result<WatchStream, StoreError> {
        self.shared.replica.watch(start, end, from)
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let current = self.shared.latest().await?;
        if before > current {
            return Err(StoreError::FutureRevision {
                requested: before,
                current,
            });
        }
        let request = CompactionRequest {
            revision: before as i64,
            physical: false,
        };
        // Compacting twice does nothing, so that it may be sent again.
        let compacted = self
            .shared
            .members
            .read(|channel| async move {
                match KvClient::new(channel).compact(request).await {
                    Err(status) if status.message().contains("has been compacted") => Ok(()),
                    other => other.map(drop),
                }
            })
            .await;
        compacted?;
        self.shared.wait_for(before).await?;
        self.shared.replica.compact(before);
        Ok(())
    }

    fn revision(&self) -> Revision {
        self.shared.replica.revision()
    }

    async fn latest(&self) -> Result<Revision, StoreError> {
        let latest = self.shared.latest().await?;
        self.shared.wait_for(latest).await?;
        Ok(latest)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn condition(&self) -> Condition {
        self.shared.condition.lock().clone()
    }
}
