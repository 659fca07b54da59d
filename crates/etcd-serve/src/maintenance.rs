//! Status, alarms, hashes, snapshots, and the one member.

use std::pin::Pin;

use bytes::Bytes;
use etcd_api::etcdserverpb::alarm_request::AlarmAction;
use etcd_api::etcdserverpb::cluster_server::Cluster;
use etcd_api::etcdserverpb::maintenance_server::Maintenance;
use etcd_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, Member, MemberListRequest,
    MemberListResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use futures::Stream;
use prost::Message;
use sha2::{Digest, Sha256};
use store::{Condition, KeyValue, Range, RangeEnd, Revision, Store};
use tonic::{Request, Response, Status};

use crate::bolt::Bolt;
use crate::{MEMBER, Service, VERSION, header, key_value, status};

/// Bytes of a snapshot that are sent at once.
const PIECE: usize = 32 << 10;

impl Service {
    /// Every key that is shown, at one revision.
    async fn everything(&self, at: Option<Revision>) -> Result<(Vec<KeyValue>, Revision), Status> {
        let range = Range {
            start: Bytes::from_static(b"\x01"),
            end: RangeEnd::Open,
            revision: at,
            limit: 0,
            count_only: false,
        };
        let found = self.engine.range(range).await.map_err(status)?;
        Ok((found.kvs, found.revision))
    }

    async fn hash_at(&self, at: Option<Revision>) -> Result<(u32, Revision), Status> {
        let (kvs, revision) = self.everything(at).await?;
        let mut hash = crc32fast::Hasher::new();
        for kv in &kvs {
            hash.update(&key_value(kv).encode_to_vec());
        }
        Ok((hash.finalize(), revision))
    }
}

/// A revision as etcd's database has it for a key.
fn database_key(revision: Revision, part: u64) -> Vec<u8> {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// The state as a database of etcd, with the checksum that its tools look for behind it.
fn database(mut kvs: Vec<KeyValue>, revision: Revision) -> Vec<u8> {
    kvs.sort_by_key(|kv| kv.mod_revision);
    let mut part = 0;
    let mut last = 0;
    let entries = kvs.iter().map(|kv| {
        part = if kv.mod_revision == last { part + 1 } else { 0 };
        last = kv.mod_revision;
        // Leases stay behind: nobody would keep them.
        let bare = etcd_api::mvccpb::KeyValue {
            lease: 0,
            ..key_value(kv)
        };
        (database_key(last, part), bare.encode_to_vec())
    });
    let entries: Vec<_> = entries.collect();
    let none = || std::iter::empty::<(Vec<u8>, Vec<u8>)>();
    let mut bolt = Bolt::new();
    for name in ["alarm", "auth", "authRoles", "authUsers", "cluster"] {
        bolt.bucket(name.as_bytes(), none());
    }
    bolt.bucket(b"key", entries);
    bolt.bucket(b"lease", none());
    for name in ["members", "members_removed"] {
        bolt.bucket(name.as_bytes(), none());
    }
    // Without a compaction there, the revision would fall back to that of the last key.
    let compacted = database_key(revision, 0);
    let index = 1u64.to_be_bytes().to_vec();
    let meta = [
        (b"consistent_index".to_vec(), index),
        (b"finishedCompactRev".to_vec(), compacted.clone()),
        (b"scheduledCompactRev".to_vec(), compacted),
    ];
    bolt.bucket(b"meta", meta);
    let mut file = bolt.finish();
    let sum = Sha256::digest(&file);
    file.extend_from_slice(&sum);
    file
}

#[tonic::async_trait]
impl Maintenance for Service {
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let alarm = match self.engine.condition() {
            Condition::Full => Some(AlarmType::Nospace),
            _ => None,
        };
        // Alarms come and go by themselves here.
        let asked = request.get_ref().action() == AlarmAction::Get;
        let alarms = alarm.filter(|_| asked).map(|alarm| AlarmMember {
            member_id: MEMBER,
            alarm: alarm.into(),
        });
        Ok(Response::new(AlarmResponse {
            header: self.header_now(),
            alarms: alarms.into_iter().collect(),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let stats = self.engine.stats().await.map_err(status)?;
        let live = stats.live_bytes as i64;
        let errors = match self.engine.condition() {
            Condition::Serving => Vec::new(),
            other => vec![other.to_string()],
        };
        Ok(Response::new(StatusResponse {
            header: self.header_now(),
            version: VERSION.to_owned(),
            db_size: live + stats.log_bytes as i64,
            leader: MEMBER,
            raft_index: stats.revision,
            raft_term: 1,
            raft_applied_index: stats.revision,
            errors,
            db_size_in_use: live,
            is_learner: false,
        }))
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.engine.checkpoint().await.map_err(status)?;
        Ok(Response::new(DefragmentResponse {
            header: self.header_now(),
        }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let (hash, revision) = self.hash_at(None).await?;
        Ok(Response::new(HashResponse {
            header: Some(header(revision)),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let at = u64::try_from(request.get_ref().revision).ok();
        let (hash, revision) = self.hash_at(at.filter(|at| *at > 0)).await?;
        let stats = self.engine.stats().await.map_err(status)?;
        Ok(Response::new(HashKvResponse {
            header: Some(header(revision)),
            hash,
            compact_revision: stats.compacted as i64,
        }))
    }

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let (kvs, revision) = self.everything(None).await?;
        let file = tokio::task::spawn_blocking(move || database(kvs, revision)).await;
        let file = Bytes::from(file.map_err(|error| Status::internal(error.to_string()))?);
        let all = file.len();
        let pieces = (0..all).step_by(PIECE).map(move |from| {
            let to = all.min(from + PIECE);
            Ok(SnapshotResponse {
                header: Some(header(revision)),
                remaining_bytes: (all - to) as u64,
                blob: file.slice(from..to),
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn move_leader(
        &self,
        _: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(Status::failed_precondition(
            "etcdserver: bad leader transferee",
        ))
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn member_list(
        &self,
        _: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let member = Member {
            id: MEMBER,
            name: "oxikube".to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: vec![self.url.to_string()],
            is_learner: false,
        };
        Ok(Response::new(MemberListResponse {
            header: self.header_now(),
            members: vec![member],
        }))
    }
}
