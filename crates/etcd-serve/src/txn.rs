//! etcd's general transactions, made of the store's.
//!
//! The conditions are looked at, and the operations tried out, on the state of one revision, with
//! what the transaction itself has written laid over it. Then all writes are committed on the
//! condition that nothing of what was looked at has changed since; if it has, all is done again.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_api::etcdserverpb::request_op::Request as Op;
use etcd_api::etcdserverpb::response_op::Response as Answer;
use etcd_api::etcdserverpb::{
    Compare as EtcdCompare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use etcd_api::mvccpb;
use store::{Compare, KeyValue, LeaseId, Range, RangeEnd, Revision, Store, Txn, TxnResult};
use tonic::Status;

use crate::kv::{bounds, shape, writable};
use crate::{Service, header, key_value, status};

/// How often a transaction is done again because others were faster.
const ATTEMPTS: usize = 200;

impl Service {
    pub(crate) async fn transact(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        for _ in 0..ATTEMPTS {
            let mut trial = Trial::new(self);
            let mut answer = trial.run(&request).await?;
            if trial.writes.is_empty() {
                set_revision(&mut answer, trial.revision);
                return Ok(answer);
            }
            self.leases.add_records(&mut trial.writes);
            let keys: Vec<Bytes> = trial.writes.iter().map(|op| op.key().clone()).collect();
            let txn = Txn {
                compare: trial.guards,
                success: trial.writes,
                failure_read: Vec::new(),
            };
            match self.engine.txn(txn).await.map_err(status)? {
                TxnResult::Committed { revision, .. } => {
                    self.leases.recorded(&keys);
                    set_revision(&mut answer, revision);
                    return Ok(answer);
                }
                TxnResult::Failed { .. } => {}
            }
        }
        Err(Status::aborted("etcdserver: too many requests"))
    }
}

/// A transaction as it would go on the state of one revision.
struct Trial<'a> {
    service: &'a Service,
    revision: Revision,
    /// What was looked at has not changed.
    guards: Vec<Compare>,
    /// In the order of the request; a key is written at most once.
    writes: Vec<store::Op>,
    /// What the writes make of their keys.
    overlay: BTreeMap<Bytes, Option<mvccpb::KeyValue>>,
}

impl<'a> Trial<'a> {
    fn new(service: &'a Service) -> Trial<'a> {
        Trial {
            service,
            revision: service.engine.revision(),
            guards: Vec::new(),
            writes: Vec::new(),
            overlay: BTreeMap::new(),
        }
    }

    async fn run(&mut self, request: &TxnRequest) -> Result<TxnResponse, Status> {
        let mut succeeded = true;
        for compare in &request.compare {
            succeeded = succeeded && self.holds(compare).await?;
        }
        let branch = match succeeded {
            true => &request.success,
            false => &request.failure,
        };
        let mut responses = Vec::with_capacity(branch.len());
        for op in branch {
            responses.push(self.operation(op).await?);
        }
        Ok(TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }

    async fn operation(&mut self, op: &RequestOp) -> Result<ResponseOp, Status> {
        let missing = || Status::invalid_argument("etcdserver: key not found");
        let response = match op.request.as_ref().ok_or_else(missing)? {
            Op::RequestRange(request) => Answer::ResponseRange(self.range(request).await?),
            Op::RequestPut(request) => Answer::ResponsePut(self.put(request).await?),
            Op::RequestDeleteRange(request) => {
                Answer::ResponseDeleteRange(self.delete(request).await?)
            }
            Op::RequestTxn(request) => Answer::ResponseTxn(Box::pin(self.run(request)).await?),
        };
        Ok(ResponseOp {
            response: Some(response),
        })
    }

    /// What is there at the trial's revision; guarded from now on.
    async fn look(&mut self, start: Bytes, end: RangeEnd) -> Result<Vec<KeyValue>, Status> {
        let range = Range {
            start: start.clone(),
            end: end.clone(),
            revision: Some(self.revision),
            limit: 0,
            count_only: false,
        };
        let found = self.service.engine.range(range).await.map_err(status)?;
        if end == RangeEnd::Key {
            self.guards.push(Compare::ModRevision {
                key: start,
                equals: found.kvs.first().map_or(0, |kv| kv.mod_revision),
            });
            return Ok(found.kvs);
        }
        self.guards.push(Compare::NotNewer {
            start,
            end,
            revision: self.revision,
        });
        // That says nothing of keys that went away.
        self.guards
            .extend(found.kvs.iter().map(|kv| Compare::ModRevision {
                key: kv.key.clone(),
                equals: kv.mod_revision,
            }));
        Ok(found.kvs)
    }

    /// The same with the transaction's own writes laid over it.
    async fn seen(&mut self, start: Bytes, end: RangeEnd) -> Result<Vec<mvccpb::KeyValue>, Status> {
        let found = self.look(start.clone(), end.clone()).await?;
        let mut seen: BTreeMap<Bytes, mvccpb::KeyValue> = found
            .iter()
            .map(|kv| (kv.key.clone(), key_value(kv)))
            .collect();
        for (key, state) in &self.overlay {
            if !end.contains(&start, key) {
                continue;
            }
            match state {
                Some(kv) => drop(seen.insert(key.clone(), kv.clone())),
                None => drop(seen.remove(key)),
            }
        }
        Ok(seen.into_values().collect())
    }

    async fn holds(&mut self, compare: &EtcdCompare) -> Result<bool, Status> {
        let (start, end) = bounds(&compare.key, &compare.range_end);
        let found = self.seen(start, end).await?;
        if !found.is_empty() {
            return Ok(found.iter().all(|kv| holds_for(compare, kv)));
        }
        // A key that is not there has no value, and zeros for the rest.
        let is_value = compare.target() == CompareTarget::Value;
        Ok(!is_value && holds_for(compare, &mvccpb::KeyValue::default()))
    }

    async fn range(
        &mut self,
        request: &RangeRequest,
    ) -> Result<etcd_api::etcdserverpb::RangeResponse, Status> {
        if request.revision > 0 {
            return self.service.read(request).await;
        }
        let (start, end) = bounds(&request.key, &request.range_end);
        let seen = self.seen(start, end).await?;
        Ok(shape(request, seen, self.revision))
    }

    fn write(&mut self, key: &Bytes, op: store::Op) -> Result<(), Status> {
        // Whatever was written lies in the overlay.
        if self.overlay.contains_key(key) {
            return Err(Status::invalid_argument(
                "etcdserver: duplicate key given in txn request",
            ));
        }
        self.writes.push(op);
        Ok(())
    }

    async fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Status> {
        writable(&request.key)?;
        let key = request.key.clone();
        let wants_before = request.prev_kv || request.ignore_value || request.ignore_lease;
        let before = match wants_before {
            true => self.seen(key.clone(), RangeEnd::Key).await?.pop(),
            false => None,
        };
        let not_found = || Status::invalid_argument("etcdserver: key not found");
        let mut value = request.value.clone();
        let mut lease = request.lease;
        if request.ignore_value {
            if !value.is_empty() {
                return Err(Status::invalid_argument("etcdserver: value is provided"));
            }
            value = before.as_ref().ok_or_else(not_found)?.value.clone();
        }
        if request.ignore_lease {
            if lease != 0 {
                return Err(Status::invalid_argument("etcdserver: lease is provided"));
            }
            lease = before.as_ref().ok_or_else(not_found)?.lease;
        }
        // The request's buffer is larger than the value in it.
        let stored = Bytes::copy_from_slice(&value);
        let stored_key = Bytes::copy_from_slice(&key);
        let op = match lease {
            0 => store::Op::Put {
                key: stored_key,
                value: stored,
                ttl: None,
            },
            id if self.service.leases.exists(id) => store::Op::PutLeased {
                key: stored_key,
                value: stored,
                lease: LeaseId::named(id as u64),
            },
            _ => return Err(Status::not_found("etcdserver: requested lease not found")),
        };
        self.write(&key, op)?;
        let after = mvccpb::KeyValue {
            key: key.clone(),
            create_revision: before.as_ref().map_or(0, |kv| kv.create_revision),
            mod_revision: self.revision as i64 + 1,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            value,
            lease,
        };
        self.overlay.insert(key, Some(after));
        Ok(PutResponse {
            header: None,
            prev_kv: before.filter(|_| request.prev_kv),
        })
    }

    async fn delete(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Status> {
        if request.key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
        let (start, end) = bounds(&request.key, &request.range_end);
        let seen = self.seen(start, end).await?;
        for kv in &seen {
            let op = store::Op::Delete {
                key: kv.key.clone(),
            };
            self.write(&kv.key, op)?;
            self.overlay.insert(kv.key.clone(), None);
        }
        Ok(DeleteRangeResponse {
            header: None,
            deleted: seen.len() as i64,
            prev_kvs: if request.prev_kv { seen } else { Vec::new() },
        })
    }
}

fn holds_for(compare: &EtcdCompare, kv: &mvccpb::KeyValue) -> bool {
    use std::cmp::Ordering;
    let number = |own: i64, other: i64| own.cmp(&other);
    let other = compare.target_union.as_ref();
    let ordering = match (compare.target(), other) {
        (CompareTarget::Version, Some(TargetUnion::Version(other))) => number(kv.version, *other),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(other))) => {
            number(kv.create_revision, *other)
        }
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(other))) => {
            number(kv.mod_revision, *other)
        }
        (CompareTarget::Lease, Some(TargetUnion::Lease(other))) => number(kv.lease, *other),
        (CompareTarget::Value, Some(TargetUnion::Value(other))) => kv.value.cmp(other),
        // What is not said is zero or empty.
        (CompareTarget::Version, _) => number(kv.version, 0),
        (CompareTarget::Create, _) => number(kv.create_revision, 0),
        (CompareTarget::Mod, _) => number(kv.mod_revision, 0),
        (CompareTarget::Lease, _) => number(kv.lease, 0),
        (CompareTarget::Value, _) => kv.value.cmp(&Bytes::new()),
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}

/// Only now is the revision known under which all of it happened.
fn set_revision(answer: &mut TxnResponse, revision: Revision) {
    let now = Some(header(revision));
    answer.header = now;
    for response in &mut answer.responses {
        match &mut response.response {
            Some(Answer::ResponsePut(put)) => put.header = now,
            Some(Answer::ResponseDeleteRange(delete)) => delete.header = now,
            Some(Answer::ResponseRange(range)) => range.header = now,
            Some(Answer::ResponseTxn(txn)) => set_revision(txn, revision),
            None => {}
        }
    }
}
