//! Ranges, and the requests that are small transactions.

use bytes::Bytes;
use etcd_api::etcdserverpb::kv_server::Kv;
use etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_api::etcdserverpb::request_op::Request as Op;
use etcd_api::etcdserverpb::response_op::Response as Answer;
use etcd_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use etcd_api::mvccpb;
use store::{Range, RangeEnd, Revision, Store};
use tonic::{Request, Response, Status};

use crate::{Service, header, key_value, status};

/// The first key that is shown.
const FIRST: &[u8] = b"\x01";

/// Start and end of a range in the store's words, this server's own keys left out.
pub(crate) fn bounds(key: &Bytes, end: &Bytes) -> (Bytes, RangeEnd) {
    let start = match key.first() {
        None | Some(0) => Bytes::from_static(FIRST),
        Some(_) => key.clone(),
    };
    match &end[..] {
        [] if key.first() == Some(&0) => (start, RangeEnd::Before(Bytes::from_static(FIRST))),
        [] => (key.clone(), RangeEnd::Key),
        [0] => (start, RangeEnd::Open),
        _ => (start, RangeEnd::Before(end.clone())),
    }
}

/// Refuses keys that cannot be written.
pub(crate) fn writable(key: &Bytes) -> Result<(), Status> {
    match key.first() {
        None => Err(Status::invalid_argument("etcdserver: key is not provided")),
        Some(0) => Err(Status::invalid_argument(
            "keys that begin with a zero byte belong to the server",
        )),
        Some(_) => Ok(()),
    }
}

/// Sorts, filters and cuts what was found as the request says.
pub(crate) fn shape(
    request: &RangeRequest,
    mut kvs: Vec<mvccpb::KeyValue>,
    revision: Revision,
) -> RangeResponse {
    let count = kvs.len() as i64;
    let within = |value: i64, least: i64, most: i64| {
        (least == 0 || value >= least) && (most == 0 || value <= most)
    };
    kvs.retain(|kv| {
        within(
            kv.mod_revision,
            request.min_mod_revision,
            request.max_mod_revision,
        ) && within(
            kv.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
    });
    let order = request.sort_order();
    let target = request.sort_target();
    // Without an order, a target other than the key means ascending.
    if order != SortOrder::None || target != SortTarget::Key {
        match target {
            SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
        }
        if order == SortOrder::Descend {
            kvs.reverse();
        }
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.count_only {
        kvs.clear();
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse {
        header: Some(header(revision)),
        kvs,
        more: more && !request.count_only,
        count,
    }
}

/// Whether the store's own limit gives the right answer.
fn is_plain(request: &RangeRequest) -> bool {
    let filtered = request.min_mod_revision
        | request.max_mod_revision
        | request.min_create_revision
        | request.max_create_revision;
    let by_key = request.sort_target() == SortTarget::Key;
    filtered == 0 && by_key && request.sort_order() != SortOrder::Descend
}

impl Service {
    pub(crate) async fn read(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        if request.key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
        let (start, end) = bounds(&request.key, &request.range_end);
        let plain = is_plain(request);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let range = Range {
            start,
            end,
            revision: u64::try_from(request.revision).ok().filter(|r| *r > 0),
            limit: if plain { limit } else { 0 },
            count_only: plain && request.count_only,
        };
        let found = self.engine.range(range).await.map_err(status)?;
        let kvs = found.kvs.iter().map(key_value).collect();
        let mut answer = shape(request, kvs, found.revision);
        if plain {
            answer.count = found.count as i64;
            answer.more = found.more;
        }
        Ok(answer)
    }

    /// Carries one operation out as a transaction of its own.
    async fn single(&self, op: Op) -> Result<Answer, Status> {
        let request = TxnRequest {
            success: vec![RequestOp { request: Some(op) }],
            ..TxnRequest::default()
        };
        let mut answer = self.transact(request).await?;
        answer
            .responses
            .pop()
            .and_then(|op| op.response)
            .ok_or_else(|| Status::internal("an operation without an answer"))
    }
}

#[tonic::async_trait]
impl Kv for Service {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        self.read(request.get_ref()).await.map(Response::new)
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        match self.single(Op::RequestPut(request.into_inner())).await? {
            Answer::ResponsePut(answer) => Ok(Response::new(answer)),
            _ => Err(Status::internal("an answer to something else")),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let op = Op::RequestDeleteRange(request.into_inner());
        match self.single(op).await? {
            Answer::ResponseDeleteRange(answer) => Ok(Response::new(answer)),
            _ => Err(Status::internal("an answer to something else")),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.transact(request.into_inner()).await.map(Response::new)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let wanted = u64::try_from(request.get_ref().revision).unwrap_or(0);
        let stats = self.engine.stats().await.map_err(status)?;
        if wanted <= stats.compacted {
            return Err(status(store::StoreError::Compacted {
                requested: wanted,
                compacted: stats.compacted,
            }));
        }
        self.engine.compact(wanted).await.map_err(status)?;
        Ok(Response::new(CompactionResponse {
            header: self.header_now(),
        }))
    }
}
