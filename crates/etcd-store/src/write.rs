//! Transactions, and the leases that keys with a time to live hang on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_api::etcdserverpb::kv_client::KvClient;
use etcd_api::etcdserverpb::lease_client::LeaseClient;
use etcd_api::etcdserverpb::request_op::Request;
use etcd_api::etcdserverpb::response_op::Response;
use etcd_api::etcdserverpb::{
    Compare as EtcdCompare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, ResponseOp, TxnRequest,
};
use parking_lot::Mutex;
use store::{Compare, Condition, KeyValue, Op, StoreError, Txn, TxnResult};

use crate::{Shared, convert};

/// Keys that share a lease.
const KEYS_A_LEASE: usize = 1000;

/// Leases that further keys of the same time to live may hang on.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<i64, Granted>>);

#[derive(Clone, Copy)]
struct Granted {
    id: i64,
    /// Keys hung on it before this live long enough.
    until: Instant,
    keys: usize,
}

impl Leases {
    fn reuse(&self, seconds: i64) -> Option<i64> {
        let mut leases = self.0.lock();
        let granted = leases.get_mut(&seconds)?;
        granted.keys += 1;
        (granted.keys <= KEYS_A_LEASE && Instant::now() < granted.until).then_some(granted.id)
    }

    fn keep(&self, seconds: i64, id: i64, slack: u64) {
        let until = Instant::now() + Duration::from_secs(slack);
        let granted = Granted { id, until, keys: 1 };
        self.0.lock().insert(seconds, granted);
    }

    fn forget_all(&self) {
        self.0.lock().clear();
    }
}

/// A lease for a key that lives so long.
async fn lease(shared: &Shared, ttl: Duration) -> Result<i64, StoreError> {
    let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX / 2);
    if let Some(id) = shared.leases.reuse(seconds) {
        return Ok(id);
    }
    // A little longer, so that keys written a little later can hang on it as well.
    let slack = seconds / 60;
    let request = LeaseGrantRequest {
        ttl: seconds + slack,
        id: 0,
    };
    // One that is granted and not used goes away by itself.
    let answer = shared
        .members
        .read(|channel| async move {
            let answer = LeaseClient::new(channel).lease_grant(request).await;
            answer.map(|answer| answer.into_inner())
        })
        .await?;
    shared.leases.keep(seconds, answer.id, slack as u64);
    Ok(answer.id)
}

fn compare(compare: &Compare) -> EtcdCompare {
    let (key, range_end, result, revision) = match compare {
        Compare::ModRevision { key, equals } => {
            (key.clone(), Bytes::new(), CompareResult::Equal, *equals)
        }
        Compare::NotNewer {
            start,
            end,
            revision,
        } => {
            let (key, range_end) = convert::range(start, end);
            (key, range_end, CompareResult::Less, revision + 1)
        }
    };
    EtcdCompare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key,
        range_end,
        target_union: Some(TargetUnion::ModRevision(revision as i64)),
    }
}

async fn operation(shared: &Shared, op: &Op) -> Result<RequestOp, StoreError> {
    let put = |key: &Bytes, value: &Bytes, lease: i64| {
        Request::RequestPut(PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease,
            prev_kv: true,
            ..PutRequest::default()
        })
    };
    let request = match op {
        Op::Put { key, value, ttl } => {
            let lease = match ttl {
                Some(ttl) => lease(shared, *ttl).await?,
                None => 0,
            };
            put(key, value, lease)
        }
        Op::PutLeased { key, value, lease } => put(key, value, lease.number() as i64),
        Op::Delete { key } => Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            prev_kv: true,
            ..DeleteRangeRequest::default()
        }),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

fn read(key: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        })),
    }
}

/// The one key that an operation was about, before it.
fn single(answer: &ResponseOp) -> Option<KeyValue> {
    let found = match answer.response.as_ref()? {
        Response::ResponsePut(put) => put.prev_kv.as_ref(),
        Response::ResponseDeleteRange(delete) => delete.prev_kvs.first(),
        Response::ResponseRange(range) => range.kvs.first(),
        Response::ResponseTxn(_) => None,
    };
    found.map(convert::key_value)
}

pub(crate) async fn txn(shared: &Arc<Shared>, txn: Txn) -> Result<TxnResult, StoreError> {
    store::replica::validate(&txn)?;
    let result = send(shared, &txn).await;
    match &result {
        Err(StoreError::NoSpace) => *shared.condition.lock() = Condition::Full,
        Ok(_) => {
            let mut condition = shared.condition.lock();
            if *condition == Condition::Full {
                *condition = Condition::Serving;
            }
        }
        Err(_) => {}
    }
    let result = result?;
    let (TxnResult::Committed { revision, .. } | TxnResult::Failed { revision, .. }) = &result;
    // It is carried out, whether it can be seen here yet or not.
    let _ = shared.wait_for(*revision).await;
    Ok(result)
}

async fn send(shared: &Arc<Shared>, txn: &Txn) -> Result<TxnResult, StoreError> {
    let mut success = Vec::with_capacity(txn.success.len());
    for op in &txn.success {
        success.push(operation(shared, op).await?);
    }
    let request = TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success,
        failure: txn.failure_read.iter().map(read).collect(),
    };
    let answer = shared
        .members
        .write(|channel| {
            let request = request.clone();
            async move {
                let mut client = KvClient::new(channel).max_decoding_message_size(usize::MAX);
                client.txn(request).await.map(|answer| answer.into_inner())
            }
        })
        .await;
    if let Err(StoreError::Unavailable { reason }) = &answer
        && reason.contains("requested lease not found")
    {
        shared.leases.forget_all();
    }
    let answer = answer?;
    let revision = convert::revision(answer.header.as_ref());
    let found = answer.responses.iter().map(single).collect();
    Ok(match answer.succeeded {
        true => TxnResult::Committed {
            revision,
            previous: found,
        },
        false => TxnResult::Failed {
            current: found,
            revision,
        },
    })
}
