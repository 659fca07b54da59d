//! Keeping the replica: a first reading, then one watch of all keys for ever.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_api::etcdserverpb::kv_client::KvClient;
use etcd_api::etcdserverpb::request_op::Request as OpRequest;
use etcd_api::etcdserverpb::watch_client::WatchClient;
use etcd_api::etcdserverpb::watch_request::RequestUnion;
use etcd_api::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use etcd_api::mvccpb::event::EventType;
use futures::StreamExt;
use store::replica::{Change, Replica};
use store::{Condition, KeyValue, Revision, StoreError};
use tonic::{Request, Status, Streaming};

use crate::members::{Members, refusal};
use crate::{Options, Shared, convert, unavailable};

/// Keys read at once.
const PAGE: i64 = 1000;
/// Before a watch that failed is begun anew on the next member.
const REST: Duration = Duration::from_millis(100);
/// A member that does not even begin a watch is left for another.
const BEGIN: Duration = Duration::from_secs(3);
/// Where servers agree on who compacts; the name that upstream's servers use.
const COMPACT_KEY: &[u8] = b"compact_rev_key";

/// All keys at a revision early enough for the retained history to follow, and that revision.
pub(crate) async fn load(
    members: &Members,
    options: &Options,
) -> Result<(Replica, Revision), StoreError> {
    let (revision, kvs) = state(members, options).await?;
    Ok((Replica::new(revision, kvs), revision))
}

async fn state(
    members: &Members,
    options: &Options,
) -> Result<(Revision, Vec<KeyValue>), StoreError> {
    for _ in 0..5 {
        let current = page(members, Bytes::from_static(b"\0"), None, 1).await?.1;
        let oldest = members.read(compacted).await?;
        let kept = options.history_revisions as u64 / 2;
        let revision = oldest.max(current.saturating_sub(kept)).max(1);
        match at(members, revision).await {
            // Compacted meanwhile.
            Err(StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
            Ok(kvs) => return Ok((revision, kvs)),
        }
    }
    Err(unavailable("etcd is compacted faster than it can be read"))
}

/// The revision of etcd's last compaction: a watch from the beginning is told.
async fn compacted(channel: tonic::transport::Channel) -> Result<Revision, Status> {
    let mut stream = begin(channel, 1).await?;
    let Some(response) = stream.message().await? else {
        return Err(Status::unavailable("the watch ended"));
    };
    if response.compact_revision > 0 {
        return Ok(response.compact_revision as u64);
    }
    if response.canceled {
        return Err(Status::unavailable(response.cancel_reason));
    }
    // It may be told right after the watch was said to be created.
    if !response.events.is_empty() {
        return Ok(0);
    }
    let next = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
    match next {
        Ok(Ok(Some(next))) => Ok(next.compact_revision.max(0) as u64),
        Ok(Ok(None)) => Err(Status::unavailable("the watch ended")),
        Ok(Err(status)) => Err(status),
        // Nothing was ever written.
        Err(_) => Ok(0),
    }
}

async fn at(members: &Members, revision: Revision) -> Result<Vec<KeyValue>, StoreError> {
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut from = Bytes::from_static(b"\0");
    if revision == 1 {
        return Ok(kvs);
    }
    loop {
        let (found, _, more) = page(members, from, Some(revision), PAGE).await?;
        kvs.extend(found);
        let Some(last) = kvs.last().filter(|_| more) else {
            return Ok(kvs);
        };
        let mut next = last.key.to_vec();
        next.push(0);
        from = next.into();
    }
}

async fn page(
    members: &Members,
    key: Bytes,
    revision: Option<Revision>,
    limit: i64,
) -> Result<(Vec<KeyValue>, Revision, bool), StoreError> {
    let request = RangeRequest {
        key,
        range_end: Bytes::from_static(b"\0"),
        revision: revision.unwrap_or(0) as i64,
        limit,
        ..RangeRequest::default()
    };
    let answer = members
        .read(|channel| {
            let request = request.clone();
            async move {
                let mut client = KvClient::new(channel).max_decoding_message_size(usize::MAX);
                match client.range(request).await {
                    Ok(answer) => Ok(Some(answer.into_inner())),
                    Err(status) if status.message().contains("has been compacted") => Ok(None),
                    Err(status) => Err(status),
                }
            }
        })
        .await?
        .ok_or(StoreError::Compacted {
            requested: revision.unwrap_or(0),
            compacted: revision.unwrap_or(0),
        })?;
    let kvs = answer.kvs.iter().map(convert::key_value).collect();
    Ok((kvs, convert::revision(answer.header.as_ref()), answer.more))
}

/// Begins a watch of all keys.
async fn begin(
    channel: tonic::transport::Channel,
    from: Revision,
) -> Result<Streaming<WatchResponse>, Status> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: from as i64,
        ..WatchCreateRequest::default()
    };
    let first = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The stream of requests stays open for as long as the watch.
    let requests = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut request = Request::new(requests);
    // A member that lost the others ends the watch instead of falling silent.
    request.metadata_mut().insert(
        "hasleader",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    match tokio::time::timeout(BEGIN, client.watch(request)).await {
        Ok(stream) => Ok(stream?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("a watch was not begun")),
    }
}

/// Why following came to an end.
enum End {
    /// The connection or the member; another one can go on.
    Gone(Status),
    /// What comes next is no longer kept, or something was missed.
    Lost,
}

/// Keeps the replica up to date until the task is ended.
pub(crate) async fn follow(shared: Arc<Shared>) {
    loop {
        let (number, channel) = shared.members.current();
        let end = match begin(channel, shared.replica.revision() + 1).await {
            Ok(stream) => drain(&shared, stream).await,
            Err(status) => End::Gone(status),
        };
        match end {
            End::Gone(status) => {
                tracing::warn!(%status, "the watch of etcd ended; going on with another member");
                shared.members.leave(number);
                let reason = status.message().into();
                *shared.condition.lock() = Condition::Unreachable(reason);
                tokio::time::sleep(REST).await;
            }
            End::Lost => {
                tracing::warn!("etcd was compacted beyond what was seen of it; reading it anew");
                match state(&shared.members, &shared.options).await {
                    Ok((revision, kvs)) => {
                        shared.replica.replace(revision, kvs);
                        shared.reached.send_replace(revision);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "etcd cannot be read");
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        }
    }
}

async fn drain(shared: &Shared, mut stream: Streaming<WatchResponse>) -> End {
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return End::Gone(Status::unavailable("the stream ended")),
            Err(status) => return End::Gone(status),
        };
        if response.compact_revision > 0 {
            return End::Lost;
        }
        if response.canceled {
            return End::Gone(Status::unavailable(response.cancel_reason));
        }
        {
            let mut condition = shared.condition.lock();
            if matches!(*condition, Condition::Unreachable(_)) {
                *condition = Condition::Serving;
            }
        }
        if !apply(shared, &response) {
            return End::Lost;
        }
    }
}

/// Hands the events over, a revision at a time. False when one is missing.
fn apply(shared: &Shared, response: &WatchResponse) -> bool {
    let now = now_ms();
    let revision_of = |event: &etcd_api::mvccpb::Event| {
        event
            .kv
            .as_ref()
            .map_or(0, |kv| kv.mod_revision.max(0) as u64)
    };
    for events in response
        .events
        .chunk_by(|a, b| revision_of(a) == revision_of(b))
    {
        let revision = revision_of(&events[0]);
        if revision <= shared.replica.revision() {
            continue;
        }
        let changes = events.iter().filter_map(|event| {
            let kv = convert::key_value(event.kv.as_ref()?);
            Some(Change {
                key: kv.key.clone(),
                now: (event.r#type() == EventType::Put).then_some(kv),
            })
        });
        if !shared
            .replica
            .apply(revision, changes.collect(), now, shared.bounds())
        {
            return false;
        }
        shared.reached.send_replace(revision);
    }
    true
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis() as u64)
}

/// Gives up etcd's history from time to time. Of several servers one does it each time: the one
/// that first counts up the version of a key, as upstream's do.
pub(crate) async fn compact(shared: Arc<Shared>, every: Duration) {
    let (mut version, mut revision) = (0, 0);
    loop {
        tokio::time::sleep(every).await;
        match take_turn(&shared, version).await {
            Ok(turn) => {
                if turn.ours && revision > 0 {
                    let request = CompactionRequest {
                        revision,
                        physical: false,
                    };
                    let compacted = shared
                        .members
                        .read(
                            |channel| async move { KvClient::new(channel).compact(request).await },
                        )
                        .await;
                    if let Err(error) = compacted {
                        tracing::debug!(%error, "compacting etcd");
                    }
                }
                (version, revision) = (turn.version, turn.revision);
            }
            Err(error) => tracing::warn!(%error, "etcd is not compacted"),
        }
    }
}

struct Turn {
    ours: bool,
    version: i64,
    revision: i64,
}

async fn take_turn(shared: &Shared, version: i64) -> Result<Turn, StoreError> {
    let key = Bytes::from_static(COMPACT_KEY);
    let put = PutRequest {
        key: key.clone(),
        value: shared.replica.revision().to_string().into(),
        ..PutRequest::default()
    };
    let get = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let request = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key,
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(version)),
        }],
        success: vec![op(OpRequest::RequestPut(put))],
        failure: vec![op(OpRequest::RequestRange(get))],
    };
    let (_, channel) = shared.members.current();
    let answer = KvClient::new(channel).txn(request).await;
    let answer = answer.map_err(|status| refusal(&status))?.into_inner();
    let revision = answer.header.map_or(0, |header| header.revision);
    use etcd_api::etcdserverpb::response_op::Response;
    let found = answer.responses.first().and_then(|r| r.response.as_ref());
    let seen = match found {
        Some(Response::ResponseRange(range)) => range.kvs.first().map_or(0, |kv| kv.version),
        _ => version + 1,
    };
    Ok(Turn {
        ours: answer.succeeded,
        version: seen,
        revision,
    })
}
