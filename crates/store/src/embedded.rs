//! The embedded engine: the store of a single server, in this process.
//!
//! The way of one write: [`Engine::txn`] puts the transaction into a queue and waits. The writer
//! thread takes all that are in the queue, evaluates their conditions in order, writes all of
//! them to the log with one write and one sync, publishes them to readers and watchers, and then
//! answers each caller. Whatever arrives during a sync shares the next one.
//!
//! A read takes a lock for a moment and copies references; it never waits for the disk.
//!
//! The engine has one timer, armed only while a key with a time to live exists or the disk is full. Compaction of the
//! history and checkpoints are set off by writes. An idle store does nothing.

mod queue;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::disk::{Disk, RealDisk, TakeError};
use crate::published::Published;
use crate::stage::size_of;
use crate::watch::watch;
use crate::writer::Writer;
use crate::{
    Condition, Range, RangeEnd, RangeResult, Revision, Store, StoreError, Txn, TxnResult,
    WatchStream, backup,
};
use queue::{Job, Queue, now_ms};
use worker::Worker;

/// What can be set. The defaults fit a cluster of any size on one server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log goes on in a new file after so many bytes.
    pub segment_bytes: u64,
    /// A checkpoint is written and synced in chunks of about so many bytes, with a rest as long
    /// as each one took.
    pub checkpoint_chunk_bytes: usize,
    /// A checkpoint is written when it makes at least so many bytes of the log superfluous.
    pub checkpoint_bytes: u64,
    /// History is kept for at least this time, as long as the other two bounds allow it.
    pub history_age: Duration,
    /// At most so many revisions of history are kept.
    pub history_revisions: usize,
    /// History may take about so much memory.
    pub history_bytes: usize,
    /// The largest transaction.
    pub max_txn_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 8 << 20,
            checkpoint_chunk_bytes: 1 << 20,
            checkpoint_bytes: 16 << 20,
            history_age: Duration::from_secs(5 * 60),
            history_revisions: 100_000,
            history_bytes: 64 << 20,
            max_txn_bytes: 8 << 20,
        }
    }
}

/// What a store holds, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The current revision.
    pub revision: Revision,
    /// The oldest state that can be read.
    pub compacted: Revision,
    /// Keys, those deleted within the history included.
    pub keys: usize,
    /// Bytes of keys and values, all kept versions together.
    pub live_bytes: usize,
    /// Transactions in the history.
    pub history_revisions: usize,
    /// Roughly the memory that they take.
    pub history_bytes: usize,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Watches that are open.
    pub watches: usize,
}

/// Why a data directory could not be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {dir} is in use by {}; stop that process first",
        .holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, if it could be told.
        holder: Option<u32>,
    },
    /// It was written by something else.
    #[error(
        "{file} names the format {found:?} where \"oxikube-store 2\" or \"oxikube-store 1\" is \
         needed; use the release that wrote the directory, or another directory"
    )]
    Format {
        /// The file that says so.
        file: String,
        /// What it says.
        found: String,
    },
    /// A backup that is none, or not whole.
    #[error("the backup is not sound: {what}")]
    Backup {
        /// What is wrong with it.
        what: String,
    },
    /// Data would be mixed or overwritten.
    #[error(
        "the data directory {dir} holds a store already; say that it is to be replaced, or restore \
         to another directory"
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// Acknowledged data cannot be read back.
    #[error(
        "{file} is damaged at byte {offset}: {what}; restore the data directory from a backup, \
         or move it away to begin with an empty cluster"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The disk did not do what it was asked.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str) -> impl Fn(io::Error) -> OpenError {
        move |source| OpenError::Io { action, source }
    }
}

/// Transactions under way may hold this many KiB together; more of them wait outside.
const QUEUE_KIB: usize = 64 << 10;

/// The store in this process. See the module's header.
pub struct Engine {
    published: Arc<Published>,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    aside: Mutex<Option<Vec<u8>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    history_age_ms: u64,
}

impl Engine {
    /// Opens a data directory, which is made if need be, and takes it for this process.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Engine>, OpenError> {
        let disk = RealDisk::take(dir).map_err(|error| match error {
            TakeError::Locked(holder) => OpenError::Locked {
                dir: dir.to_owned(),
                holder,
            },
            TakeError::Io(source) => OpenError::io("take the data directory")(source),
        })?;
        Engine::open_on(Arc::new(disk), options)
    }

    /// Opens a store on any disk, a simulated one for instance.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<Engine>, OpenError> {
        let aside = crate::aside::read(&*disk)?;
        let history_age_ms = options.history_age.as_millis() as u64;
        let writer = Writer::open(disk, options)?;
        let published = writer.published().clone();
        let queue = Arc::new(Queue::default());
        let worker = Worker::new(writer, queue.clone());
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.run())
            .map_err(OpenError::io("start the writer thread"))?;
        let room = Arc::new(Semaphore::new(QUEUE_KIB));
        Ok(Arc::new(Engine {
            published,
            queue,
            room,
            aside: Mutex::new(aside),
            thread: Mutex::new(Some(thread)),
            history_age_ms,
        }))
    }

    /// Gives up what is too old to be read. Writes do so too; where there are none, only readers of the past would notice.
    async fn forget_what_is_old(&self) {
        let excess = {
            let inner = self.published.read();
            let history = &inner.history;
            history.excess(now_ms(), self.history_age_ms, usize::MAX, usize::MAX)
        };
        if let Some(revision) = excess {
            // A disk without room is no reason not to answer.
            let _ = self.compact(revision).await;
        }
    }

    /// Finishes the transactions that have been handed over, ends all watches and releases the
    /// data directory. Everything asked of the engine later is answered with an error. Blocks for
    /// about as long as a write takes.
    pub fn close(&self) {
        self.queue.close();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the writer has been logged by its hook; there is nothing to add.
            let _ = thread.join();
        }
    }

    /// Forgets the history and writes a checkpoint, so that the files are as small as they get.
    pub async fn shrink(&self) -> Result<(), StoreError> {
        self.compact(self.revision()).await?;
        self.checkpoint().await
    }

    /// Writes a checkpoint of the oldest readable state, and removes what it makes superfluous.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Job::Checkpoint(answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a backup of the present state, beside everything else that goes on. Blocks for as
    /// long as `out` takes; the caller syncs it.
    pub fn backup(&self, out: &mut dyn io::Write) -> io::Result<Revision> {
        let pin = {
            let inner = self.published.read();
            self.published.pin(inner.history.revision())
        };
        backup::write(self.published.clone(), pin, out)
    }

    /// What the store holds.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Job::LogBytes(answer))?;
        let log_bytes = answered.await.map_err(|_| StoreError::Closed)?;
        let inner = self.published.open()?;
        let history = &inner.history;
        let (history_revisions, history_bytes) = history.log_size();
        Ok(Stats {
            revision: history.revision(),
            compacted: history.compacted(),
            keys: history.key_count(),
            live_bytes: history.state_bytes(),
            history_revisions,
            history_bytes,
            log_bytes,
            watches: inner.cursors.len(),
        })
    }

    /// What was put aside before this process opened the store, once.
    pub fn take_aside(&self) -> Option<Vec<u8>> {
        self.aside.lock().take()
    }

    /// Keeps a few bytes beside the store, in place of those that were there: what must survive a restart and have no
    /// revision. It is on the disk when this returns, and is no part of backups.
    pub async fn put_aside(&self, content: Vec<u8>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Job::PutAside(content, answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The error that made the engine refuse writes, if it does.
    pub fn failure(&self) -> Option<StoreError> {
        self.published.failure()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for Engine {
    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let stats = self.stats().await?;
        Ok(stats.log_bytes + stats.live_bytes as u64)
    }

    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        if range.revision.is_some() {
            self.forget_what_is_old().await;
        }
        self.published.range(&range, tokio::task::yield_now).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let kib = (size_of(&txn) / 1024 + 1).min(QUEUE_KIB);
        let permit = self.room.clone().acquire_many_owned(kib as u32).await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.queue.push(Job::Txn(txn, answer, permit))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn watch(
        &self,
        start: Bytes,
        end: RangeEnd,
        from: Revision,
    ) -> Result<WatchStream, StoreError> {
        watch(&self.published, start, end, from)
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Job::Compact(before, answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn revision(&self) -> Revision {
        self.published.revision()
    }

    fn condition(&self) -> Condition {
        self.published.condition()
    }
}
