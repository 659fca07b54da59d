//! The store: etcd's semantics behind one small trait.
//!
//! What it is: an ordered map from byte keys to byte values in which every committed transaction
//! that writes has a number of its own, the *revision*; the past can be read and watched as far
//! back as the last compaction. [`Store`] is the contract, [`embedded::Engine`] the engine that a
//! single server uses: everything readable from memory, every acknowledged write on disk.
//!
//! What it is not: it knows no kind, no namespace, no JSON. Names of resources, encryption,
//! watch caches and admission belong to its callers. The engine for a real etcd is the crate
//! `etcd-store`, which keeps a [`replica::Replica`].
//!
//! Where to start: the trait below; then [`embedded`] for the way of one write, [`backup`] for
//! taking the data elsewhere, [`sim`] for how it is tested.
//!
//! Laws that every engine keeps:
//!
//! * A transaction is acknowledged only when it would survive a power cut.
//! * Nothing that is not durable can be seen: not by [`Store::range`], not by a watch.
//! * Revisions grow by exactly one for each transaction that changes something.
//! * A watch delivers each matching event once, in order, or ends with an error. It never skips.

pub mod backup;
pub mod disk;
pub mod embedded;
pub mod replica;
pub mod sim;
pub mod sim_disk;

mod aside;
mod checkpoint;
mod format;
mod frame;
mod history;
mod index;
mod published;
mod record;
mod recovery;
mod stage;
mod wal;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use watch::{WatchProgress, WatchStream};

/// The number of a committed transaction. An empty store is at revision 1, so the first
/// transaction that writes gets 2; each one that writes adds one.
pub type Revision = u64;

/// What a key with a time to live hangs on. Opaque: two keys with the same lease go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Tells a named lease from a deadline.
const NAMED: u64 = 1 << 63;

impl LeaseId {
    /// A lease that somebody else keeps: its keys do not go away by themselves.
    pub fn named(id: u64) -> LeaseId {
        LeaseId(id | NAMED)
    }

    /// Whether it is one made by [`LeaseId::named`].
    pub fn is_named(self) -> bool {
        self.0 & NAMED != 0
    }

    /// The number given to [`LeaseId::named`], or what else the lease has for a number.
    pub fn number(self) -> u64 {
        self.0 & !NAMED
    }
}

/// One key as it was after some transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty in the event of a deletion.
    pub value: Bytes,
    /// Revision at which the key last came into being; 0 in the event of a deletion.
    pub create_revision: Revision,
    /// Revision of the transaction that made this state.
    pub mod_revision: Revision,
    /// How many times the key was written since it was created, the first time is 1; 0 in the
    /// event of a deletion.
    pub version: u64,
    /// Set when the key goes away by itself.
    pub lease: Option<LeaseId>,
}

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// Only the start key itself.
    Key,
    /// All keys that begin with the start key (all keys there are when it is empty).
    Prefix,
    /// All keys from the start key up to this one, which is left out.
    Before(Bytes),
    /// There is no end: all keys from the start key on.
    Open,
}

impl RangeEnd {
    /// Whether the range that begins at `start` and ends here holds `key`.
    pub fn contains(&self, start: &[u8], key: &[u8]) -> bool {
        match self {
            RangeEnd::Key => key == start,
            RangeEnd::Prefix => key.starts_with(start),
            RangeEnd::Before(end) => key >= start && key < &end[..],
            RangeEnd::Open => key >= start,
        }
    }
}

/// A read of one key or of neighbouring keys.
#[derive(Clone, Debug)]
pub struct Range {
    /// First key.
    pub start: Bytes,
    /// Where the keys end.
    pub end: RangeEnd,
    /// The state to read; the current one when absent.
    pub revision: Option<Revision>,
    /// At most so many keys are returned; 0 means all.
    pub limit: usize,
    /// Count the keys and return none.
    pub count_only: bool,
}

impl Range {
    /// The current state of one key.
    pub fn key(key: impl Into<Bytes>) -> Range {
        Range {
            start: key.into(),
            end: RangeEnd::Key,
            revision: None,
            limit: 0,
            count_only: false,
        }
    }

    /// The current state of all keys with a prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        Range {
            end: RangeEnd::Prefix,
            ..Range::key(prefix)
        }
    }
}

/// What a [`Range`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResult {
    /// In the order of their keys, at most `limit`.
    pub kvs: Vec<KeyValue>,
    /// How many keys match, without regard to the limit.
    pub count: usize,
    /// Whether the limit left some out.
    pub more: bool,
    /// The store's current revision when the read was made. A read without a revision shows
    /// exactly the state of this one.
    pub revision: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key's last write has this revision.
    ModRevision {
        /// The key.
        key: Bytes,
        /// The revision; 0 asks that the key is absent.
        equals: Revision,
    },
    /// No key there now was written after this revision: with it a decision made on a range that
    /// was read at the revision still holds, unless keys were removed meanwhile.
    NotNewer {
        /// The first key.
        start: Bytes,
        /// Where the keys end.
        end: RangeEnd,
        /// The revision.
        revision: Revision,
    },
}

/// One change that a transaction makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key. A time to live given by an earlier write of the key no longer counts.
    Put {
        /// The key; not empty.
        key: Bytes,
        /// The value. The engine keeps these very bytes in memory: hand over a buffer that is
        /// not a slice of something bigger.
        value: Bytes,
        /// Removes the key after this time. The embedded engine rounds it up by no more than a
        /// sixtieth of it, etcd to some seconds.
        ttl: Option<Duration>,
    },
    /// Writes a key that hangs on a named lease. Whoever keeps the lease removes the key.
    PutLeased {
        /// The key; not empty.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease; a named one.
        lease: LeaseId,
    },
    /// Removes a key; nothing happens when it is absent.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Op {
    /// The key that the operation is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::PutLeased { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// Conditions, and what to do when all of them hold. All of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Carried out when they do; a key may occur once only.
    pub success: Vec<Op>,
    /// The keys to read when they do not.
    pub failure_read: Vec<Bytes>,
}

/// What became of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// The conditions held and the changes are durable.
    Committed {
        /// The transaction's revision; the current one when it changed nothing.
        revision: Revision,
        /// For each operation in order, the key as it was before.
        previous: Vec<Option<KeyValue>>,
    },
    /// A condition did not hold and nothing was changed.
    Failed {
        /// For each key of `failure_read` in order, what it is.
        current: Vec<Option<KeyValue>>,
        /// The store's revision at that moment.
        revision: Revision,
    },
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was removed, by a transaction or because its time was over.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after it. For a deletion only `key` and `mod_revision` say something.
    pub kv: KeyValue,
    /// The key before it.
    pub previous: Option<KeyValue>,
}

/// All events of one revision that a watch asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision of each of them.
    pub revision: Revision,
    /// Never empty; shared between the watchers.
    pub events: Arc<[Event]>,
}

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The history asked for is gone.
    #[error("revision {requested} is no longer kept, history up to {compacted} has been compacted")]
    Compacted {
        /// The revision that was asked for.
        requested: Revision,
        /// The revision of the compaction: the oldest state that can be read; a watch must begin
        /// after it.
        compacted: Revision,
    },
    /// The revision asked for is yet to come.
    #[error("revision {requested} is in the future, the store is at {current}")]
    FutureRevision {
        /// The revision that was asked for.
        requested: Revision,
        /// The current one.
        current: Revision,
    },
    /// A request that no store could carry out.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
    /// A transaction beyond the size that the engine takes.
    #[error("transaction of {size} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The disk is full. Nothing was changed, and writing works again as soon as there is room.
    #[error("no space left in the data directory, nothing was written")]
    NoSpace,
    /// The engine could not make sure that a write is on disk and takes no more of them until it
    /// is opened again. Whether the write that met this survives is not known.
    #[error("the store takes no writes since an I/O error: {reason}")]
    Failed {
        /// The error that was met first.
        reason: Arc<str>,
    },
    /// The store is elsewhere and cannot be reached. Whether a write that met this was carried
    /// out is not known; it may still be.
    #[error("the store cannot be reached: {reason}")]
    Unavailable {
        /// What was met.
        reason: Arc<str>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether a store takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    Serving,
    /// There is no room on the disk. Reads go on, and so do writes as soon as there is room.
    Full,
    /// The disk failed. Reads go on; the store must be opened again to write.
    Failed(Arc<str>),
    /// It is elsewhere and cannot be reached at the moment.
    Unreachable(Arc<str>),
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Serving => f.write_str("ok"),
            Condition::Full => {
                f.write_str("read-only: no space left in the data directory; make room")
            }
            Condition::Failed(reason) => write!(
                f,
                "read-only since an I/O error: {reason}; check the disk, then restart"
            ),
            Condition::Unreachable(reason) => write!(f, "cannot be reached: {reason}"),
        }
    }
}

/// A store with etcd's semantics.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads keys at one revision. Does not wait for the disk.
    async fn range(&self, range: Range) -> Result<RangeResult, StoreError>;

    /// Carries out a transaction. The answer comes after the transaction is durable; one that
    /// changes nothing (a condition failed, only absent keys deleted) has no revision of its own.
    /// Dropping the future does not take the transaction back.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Every event of the keys with a revision of at least `from`, in order, with the value
    /// before it. `from` may lie in the future. [`StoreError::Compacted`] when it is too old,
    /// at once or later on when the reader falls behind a compaction; a slow reader costs the
    /// store nothing else and never misses an event silently.
    async fn watch(
        &self,
        start: Bytes,
        end: RangeEnd,
        from: Revision,
    ) -> Result<WatchStream, StoreError>;

    /// The bytes that it takes on its disk.
    async fn size_bytes(&self) -> Result<u64, StoreError>;

    /// Forgets the history before a revision. The state at the revision itself stays readable,
    /// and watches may begin after it. A revision that has been compacted already is no error.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;

    /// The current revision: that of the last durable transaction that this process knows of.
    fn revision(&self) -> Revision;

    /// A revision at least as high as that of every transaction that was acknowledged before,
    /// also to other processes that share the store.
    async fn latest(&self) -> Result<Revision, StoreError> {
        Ok(self.revision())
    }

    /// Whether other processes read and write the same store.
    fn is_shared(&self) -> bool {
        false
    }

    /// Writes a key anew as it is, if it still has this revision and is kept otherwise than it would be written today (under
    /// an old key of encryption, say); gives the new revision if so.
    async fn refresh(&self, _key: &Bytes, _at: Revision) -> Result<Option<Revision>, StoreError> {
        Ok(None)
    }

    /// Whether writes are taken.
    fn condition(&self) -> Condition {
        Condition::Serving
    }
}
