//! Leases: how long each lives is kept in the store, when it ends in memory.
//!
//! After a restart every lease has its whole time again, as after a change of etcd's leader. Every
//! revision must have something to show to those who follow all keys, so that a lease's record is
//! written with the first key that hangs on it, and removed with some later write. What has not
//! come to that yet, leases without keys and records of leases that are gone, stands beside the
//! store until then; granting and revoking are answered when it does.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd_api::etcdserverpb::lease_server::Lease;
use etcd_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use store::embedded::Engine;
use store::{Compare, KeyValue, LeaseId, Op, Range, Store, StoreError, Txn};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::{Service, status};

const PREFIX: &[u8] = b"\0oxikube/etcd-lease/";
/// A lease that could not be removed, for want of room perhaps, is tried again so much later.
const AGAIN: Duration = Duration::from_secs(5);
const LONGEST: i64 = 9_000_000_000;

#[derive(Clone, Copy)]
struct Held {
    seconds: i64,
    ends: Instant,
    /// The store knows of it.
    recorded: bool,
}

pub(crate) struct Leases {
    engine: Arc<Engine>,
    held: Mutex<HashMap<i64, Held>>,
    /// Records of leases that are gone.
    superfluous: Mutex<HashSet<i64>>,
    /// How often something was granted or revoked, and how much of it is on disk.
    changes: AtomicU64,
    kept: tokio::sync::Mutex<u64>,
    changed: Notify,
}

fn record(id: i64) -> Bytes {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(format!("{id:016x}").as_bytes());
    key.into()
}

fn read_record(kv: &KeyValue) -> Option<(i64, i64)> {
    let id = std::str::from_utf8(kv.key.strip_prefix(PREFIX)?).ok()?;
    let seconds = std::str::from_utf8(&kv.value).ok()?;
    Some((i64::from_str_radix(id, 16).ok()?, seconds.parse().ok()?))
}

/// A line each: the number and the seconds of a lease that was granted, `-` and the number of one that is gone.
fn write_aside(
    granted: impl Iterator<Item = (i64, i64)>,
    gone: impl Iterator<Item = i64>,
) -> String {
    let granted = granted.map(|(id, seconds)| format!("{id:x} {seconds}\n"));
    granted.chain(gone.map(|id| format!("-{id:x}\n"))).collect()
}

fn read_aside(text: &str) -> (HashMap<i64, i64>, HashSet<i64>) {
    let (mut granted, mut gone) = (HashMap::new(), HashSet::new());
    let id = |text: &str| i64::from_str_radix(text, 16).ok();
    for line in text.lines() {
        match (line.strip_prefix('-'), line.split_once(' ')) {
            (Some(number), _) => gone.extend(id(number)),
            (None, Some((number, seconds))) => {
                granted.extend(id(number).zip(seconds.parse::<i64>().ok()));
            }
            _ => {}
        }
    }
    (granted, gone)
}

fn held(seconds: i64) -> Held {
    let lives = Duration::from_secs(seconds.unsigned_abs());
    Held {
        seconds,
        ends: Instant::now() + lives,
        recorded: false,
    }
}

impl Leases {
    pub(crate) async fn load(engine: Arc<Engine>) -> Arc<Leases> {
        let found = engine.range(Range::prefix(PREFIX)).await;
        let records = found.map(|found| found.kvs).unwrap_or_default();
        let aside = engine.take_aside().unwrap_or_default();
        let (granted, mut gone) = read_aside(&String::from_utf8_lossy(&aside));
        let mut leases: HashMap<i64, Held> = granted
            .into_iter()
            .map(|(id, seconds)| (id, held(seconds)))
            .collect();
        let recorded: HashMap<i64, i64> = records.iter().filter_map(read_record).collect();
        gone.retain(|id| recorded.contains_key(id) && !leases.contains_key(id));
        for (id, seconds) in recorded {
            if !gone.contains(&id) {
                // One of the same name, granted later, counts.
                leases.entry(id).or_insert(held(seconds)).recorded = true;
            }
        }
        Arc::new(Leases {
            held: Mutex::new(leases),
            superfluous: Mutex::new(gone),
            changes: AtomicU64::new(0),
            kept: tokio::sync::Mutex::new(0),
            engine,
            changed: Notify::new(),
        })
    }

    /// Keeps beside the store what the store itself does not say yet. Whoever comes while another is at it shares the next
    /// write.
    async fn keep(&self) -> Result<(), StoreError> {
        let mine = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut kept = self.kept.lock().await;
        if *kept >= mine {
            return Ok(());
        }
        let all = self.changes.load(Ordering::SeqCst);
        let aside = {
            let held = self.held.lock();
            let granted = held.iter().filter(|(_, lease)| !lease.recorded);
            let granted = granted.map(|(id, lease)| (*id, lease.seconds));
            write_aside(granted, self.superfluous.lock().iter().copied())
        };
        self.engine.put_aside(aside.into_bytes()).await?;
        *kept = all;
        Ok(())
    }

    /// Adds what the store must learn of leases to a transaction that writes anyway.
    pub(crate) fn add_records(&self, writes: &mut Vec<Op>) {
        let named = |op: &Op| match op {
            Op::PutLeased { lease, .. } => Some(lease.number() as i64),
            _ => None,
        };
        let used: HashSet<i64> = writes.iter().filter_map(named).collect();
        let held = self.held.lock();
        for id in used {
            if let Some(lease) = held.get(&id).filter(|lease| !lease.recorded) {
                let key = record(id);
                let value = lease.seconds.to_string().into();
                writes.push(Op::Put {
                    key,
                    value,
                    ttl: None,
                });
            }
        }
        for id in self.superfluous.lock().iter() {
            writes.push(Op::Delete { key: record(*id) });
        }
    }

    /// Takes note that a transaction with such records was committed.
    pub(crate) fn recorded<'a>(&self, keys: impl IntoIterator<Item = &'a Bytes>) {
        for key in keys {
            let id = key.strip_prefix(PREFIX);
            let id = id.and_then(|id| std::str::from_utf8(id).ok());
            let Some(id) = id.and_then(|id| i64::from_str_radix(id, 16).ok()) else {
                continue;
            };
            match self.held.lock().get_mut(&id) {
                Some(lease) => lease.recorded = true,
                None => drop(self.superfluous.lock().remove(&id)),
            }
        }
    }

    pub(crate) fn exists(&self, id: i64) -> bool {
        self.held.lock().contains_key(&id)
    }

    /// Removes leases whose time is over; armed only while there are any.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let next = {
                let held = self.held.lock();
                let first = held.iter().min_by_key(|(_, held)| held.ends);
                first.map(|(id, held)| (*id, held.ends))
            };
            let Some((id, ends)) = next else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(ends) => {}
                () = self.changed.notified() => continue,
            }
            let removed = self.remove(id).await;
            // One that comes back with a restart has no keys, and goes again.
            let kept = async { removed.and(self.keep().await) };
            if let Err(error) = kept.await {
                tracing::warn!(lease = id, "a lease that is over stays for now: {error}");
                let later = Instant::now() + AGAIN;
                self.held
                    .lock()
                    .entry(id)
                    .and_modify(|held| held.ends = later);
            }
        }
    }

    async fn keys(&self, id: i64) -> Result<Vec<KeyValue>, StoreError> {
        let found = self.engine.range(Range::prefix("")).await?;
        let lease = Some(LeaseId::named(id as u64));
        let ours = found.kvs.into_iter().filter(|kv| kv.lease == lease);
        Ok(ours.collect())
    }

    /// Removes a lease and the keys that hang on it, all at once.
    async fn remove(&self, id: i64) -> Result<(), StoreError> {
        loop {
            let keys = self.keys(id).await?;
            if keys.is_empty() {
                if let Some(lease) = self.held.lock().remove(&id)
                    && lease.recorded
                {
                    self.superfluous.lock().insert(id);
                }
                self.changed.notify_one();
                // Keys put on it in this very moment go with another look.
                match self.keys(id).await?.is_empty() {
                    true => return Ok(()),
                    false => continue,
                }
            }
            let compare = keys.iter().map(|kv| Compare::ModRevision {
                key: kv.key.clone(),
                equals: kv.mod_revision,
            });
            let success = keys.iter().map(|kv| Op::Delete {
                key: kv.key.clone(),
            });
            let txn = Txn {
                compare: compare.collect(),
                success: success.collect(),
                failure_read: Vec::new(),
            };
            // Whether it was in time shows the next look.
            self.engine.txn(txn).await?;
        }
    }

    fn grant(&self, id: i64, seconds: i64) -> Result<i64, Status> {
        let mut all = self.held.lock();
        let id = match id {
            0 => unused(&all),
            id if all.contains_key(&id) => {
                return Err(Status::failed_precondition(
                    "etcdserver: lease already exists",
                ));
            }
            id => id,
        };
        let mut lease = held(seconds);
        // The record of one of the same name may say another time, so it is written again.
        lease.recorded = false;
        all.insert(id, lease);
        drop(all);
        self.superfluous.lock().remove(&id);
        self.changed.notify_one();
        Ok(id)
    }

    /// Gives a lease its whole time again; nothing when it is gone.
    fn renew(&self, id: i64) -> Option<i64> {
        let mut all = self.held.lock();
        let found = all.get_mut(&id)?;
        found.ends = held(found.seconds).ends;
        Some(found.seconds)
    }
}

fn unused(held: &HashMap<i64, Held>) -> i64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    loop {
        let id = (RandomState::new().build_hasher().finish() >> 1) as i64;
        if id != 0 && !held.contains_key(&id) {
            return id;
        }
    }
}

fn not_found() -> Status {
    Status::not_found("etcdserver: requested lease not found")
}

#[tonic::async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        if request.ttl > LONGEST {
            return Err(Status::out_of_range("etcdserver: too large lease TTL"));
        }
        if request.id < 0 {
            return Err(Status::invalid_argument(
                "a lease must not have a negative number",
            ));
        }
        let seconds = request.ttl.max(1);
        let id = self.leases.grant(request.id, seconds)?;
        if let Err(error) = self.leases.keep().await {
            self.leases.held.lock().remove(&id);
            return Err(status(error));
        }
        Ok(Response::new(LeaseGrantResponse {
            header: self.header_now(),
            id,
            ttl: seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let id = request.get_ref().id;
        if !self.leases.exists(id) {
            return Err(not_found());
        }
        self.leases.remove(id).await.map_err(status)?;
        self.leases.keep().await.map_err(status)?;
        Ok(Response::new(LeaseRevokeResponse {
            header: self.header_now(),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let service = self.clone();
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            Ok(LeaseKeepAliveResponse {
                header: service.header_now(),
                id,
                ttl: service.leases.renew(id).unwrap_or(0),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let found = self.leases.held.lock().get(&request.id).copied();
        let Some(found) = found else {
            return Ok(Response::new(LeaseTimeToLiveResponse {
                header: self.header_now(),
                id: request.id,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            }));
        };
        let keys = match request.keys {
            true => self.leases.keys(request.id).await.map_err(status)?,
            false => Vec::new(),
        };
        let left = found.ends.saturating_duration_since(Instant::now());
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: self.header_now(),
            id: request.id,
            ttl: left.as_secs() as i64,
            granted_ttl: found.seconds,
            keys: keys.into_iter().map(|kv| kv.key).collect(),
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let mut ids: Vec<i64> = self.leases.held.lock().keys().copied().collect();
        ids.sort_unstable();
        Ok(Response::new(LeaseLeasesResponse {
            header: self.header_now(),
            leases: ids.into_iter().map(|id| LeaseStatus { id }).collect(),
        }))
    }
}
