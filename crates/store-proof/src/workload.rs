//! Clients that write, read and watch at the same time, and record what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use store::sim_disk::Dice;
use store::{
    Batch, Compare, EventKind, Op, Range, RangeEnd, Revision, Store, StoreError, Txn, TxnResult,
};
use tokio::task::JoinHandle;

use crate::history::{Asked, Changes, History, Moment, Outcome, Read, Watched};

/// Keys that the clients fight over.
const KEYS: u64 = 12;
/// After the store could not be reached.
const REST: Duration = Duration::from_millis(20);

/// What the clients of one run share.
pub struct Recording {
    began: Instant,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    recorded: Mutex<History>,
}

impl Recording {
    fn now(&self) -> Moment {
        self.began.elapsed().as_nanos() as Moment
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many transactions have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Clients at work.
pub struct Clients {
    recording: Arc<Recording>,
    writers: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<Watched>>,
}

impl Clients {
    /// Sets clients to work, each on one of the stores, on keys below `run/`.
    pub fn start(stores: &[Arc<dyn Store>], count: usize, seed: u64) -> Clients {
        let recording = Arc::new(Recording {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            recorded: Mutex::default(),
        });
        let start = stores.iter().map(|store| store.revision()).max();
        recording.recorded.lock().start = start.unwrap_or(1) + 1;
        let at = |number: usize| stores[number % stores.len()].clone();
        let writers = (0..count).map(|number| {
            let client = Client {
                store: at(number),
                recording: recording.clone(),
                dice: Dice::new(seed.wrapping_mul(1000) + number as u64),
                number,
                count: 0,
                known: BTreeMap::new(),
            };
            tokio::spawn(client.work())
        });
        let prefixes = ["run/", "run/1", "run/7", "run/"];
        let from = start.unwrap_or(1) + 1;
        let watchers = prefixes.iter().enumerate().map(|(number, prefix)| {
            let restless = number == 3;
            tokio::spawn(watch(
                at(number),
                recording.clone(),
                Bytes::from_static(prefix.as_bytes()),
                from,
                restless,
            ))
        });
        let writers = writers.collect();
        let watchers = watchers.collect();
        Clients {
            recording,
            writers,
            watchers,
        }
    }

    /// What they share.
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Ends the work; `truth` is a store that knows everything now. The whole history with it.
    pub async fn finish(self, truth: &Arc<dyn Store>) -> Result<History, StoreError> {
        self.recording.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("a client panicked");
        }
        let end = settle(truth).await?;
        let mut history = std::mem::take(&mut *self.recording.recorded.lock());
        history.truth = read_truth(truth, history.start, end).await?;
        for watcher in self.watchers {
            let watched = tokio::time::timeout(Duration::from_secs(60), watcher).await;
            let watched = watched.expect("a watch does not come to the end");
            history.watches.push(watched.expect("a watch panicked"));
        }
        Ok(history)
    }
}

/// Makes a last change that every watch of `run/` sees.
async fn settle(store: &Arc<dyn Store>) -> Result<Revision, StoreError> {
    for prefix in ["run/1", "run/7"] {
        loop {
            let txn = Txn {
                success: vec![Op::Put {
                    key: format!("{prefix}/end").into(),
                    value: END,
                    ttl: None,
                }],
                ..Txn::default()
            };
            match store.txn(txn).await {
                Ok(_) => break,
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(REST).await,
                Err(error) => return Err(error),
            }
        }
    }
    store.latest().await
}

const END: Bytes = Bytes::from_static(b"the end");

/// The changes of a batch, the ones that ended the run left out.
fn changes(batch: &Batch) -> Changes {
    let events = batch.events.iter().filter(|event| event.kv.value != END);
    events
        .map(|event| {
            let value = (event.kind == EventKind::Put).then(|| event.kv.value.clone());
            (event.kv.key.clone(), value)
        })
        .collect()
}

/// Every change from a revision to another; those that ended the run stand there empty-handed.
pub async fn read_truth(
    store: &Arc<dyn Store>,
    from: Revision,
    to: Revision,
) -> Result<BTreeMap<Revision, Changes>, StoreError> {
    let mut truth = BTreeMap::new();
    if from > to {
        return Ok(truth);
    }
    let mut watch = store.watch(Bytes::new(), RangeEnd::Prefix, from).await?;
    while let Some(batch) = watch.next().await {
        let batch = batch?;
        truth.insert(batch.revision, changes(&batch));
        if batch.revision >= to {
            break;
        }
    }
    Ok(truth)
}

struct Client {
    store: Arc<dyn Store>,
    recording: Arc<Recording>,
    dice: Dice,
    number: usize,
    count: u64,
    /// Revisions of keys as far as this client has heard.
    known: BTreeMap<Bytes, Revision>,
}

impl Client {
    async fn work(mut self) {
        while !self.recording.stopped() {
            if self.dice.once_in(4) {
                self.read().await;
            } else {
                self.write().await;
            }
        }
    }

    fn key(&mut self) -> Bytes {
        format!("run/{}", self.dice.below(KEYS)).into()
    }

    fn value(&mut self) -> Bytes {
        self.count += 1;
        let filler = "x".repeat(self.dice.below(300) as usize);
        format!("{}-{}-{filler}", self.number, self.count).into()
    }

    fn txn(&mut self) -> Txn {
        let (key, value) = (self.key(), self.value());
        let mut txn = Txn {
            failure_read: vec![key.clone()],
            ..Txn::default()
        };
        if !self.dice.once_in(3) {
            let equals = self.known.get(&key).copied().unwrap_or(0);
            let key = key.clone();
            txn.compare.push(Compare::ModRevision { key, equals });
        }
        txn.success.push(Op::Put {
            key: key.clone(),
            value,
            ttl: None,
        });
        let other = self.key();
        if other != key {
            match self.dice.below(6) {
                0 => txn.success.push(Op::Delete { key: other }),
                1 => {
                    let value = self.value();
                    txn.success.push(Op::Put {
                        key: other,
                        value,
                        ttl: None,
                    });
                }
                _ => {}
            }
        }
        txn
    }

    async fn write(&mut self) {
        let txn = self.txn();
        let called = self.recording.now();
        let result = self.store.txn(txn.clone()).await;
        let returned = self.recording.now();
        let unreachable = matches!(result, Err(StoreError::Unavailable { .. }));
        let outcome = match result {
            Ok(TxnResult::Committed { revision, previous }) => {
                self.recording.acknowledged.fetch_add(1, Ordering::Relaxed);
                let keys = txn.success.iter();
                self.known.extend(keys.map(|op| match op {
                    Op::Delete { key } => (key.clone(), 0),
                    op => (op.key().clone(), revision),
                }));
                Outcome::Committed { revision, previous }
            }
            Ok(TxnResult::Failed { revision, current }) => {
                for (key, kv) in txn.failure_read.iter().zip(&current) {
                    let revision = kv.as_ref().map_or(0, |kv| kv.mod_revision);
                    self.known.insert(key.clone(), revision);
                }
                Outcome::Failed { revision, current }
            }
            Err(StoreError::NoSpace | StoreError::Invalid(_) | StoreError::TooLarge { .. }) => {
                Outcome::Refused
            }
            Err(_) => Outcome::Unknown,
        };
        self.recording.recorded.lock().asked.push(Asked {
            txn,
            called,
            returned,
            outcome,
        });
        if unreachable {
            tokio::time::sleep(REST).await;
        }
    }

    async fn read(&mut self) {
        let key = self.key();
        let called = self.recording.now();
        let Ok(found) = self.store.range(Range::key(key.clone())).await else {
            tokio::time::sleep(REST).await;
            return;
        };
        let returned = self.recording.now();
        self.recording.recorded.lock().reads.push(Read {
            key,
            called,
            returned,
            revision: found.revision,
            found: found.kvs.into_iter().next(),
        });
    }
}

/// Watches until the run's last change; a restless one begins anew every few events.
async fn watch(
    store: Arc<dyn Store>,
    recording: Arc<Recording>,
    prefix: Bytes,
    from: Revision,
    restless: bool,
) -> Watched {
    let mut watched = Watched {
        prefix: prefix.clone(),
        from,
        events: Vec::new(),
        bookmarks: Vec::new(),
    };
    let mut next = from;
    loop {
        let stream = store.watch(prefix.clone(), RangeEnd::Prefix, next).await;
        let Ok(mut stream) = stream else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let progress = stream.progress();
        let mut count = 0;
        while let Some(Ok(batch)) = stream.next().await {
            let changes = changes(&batch);
            next = batch.revision + 1;
            if changes.is_empty() {
                // The last changes come one after the other.
                if recording.stopped() && batch.events[0].kv.key.starts_with(&prefix) {
                    return watched;
                }
                continue;
            }
            // What the handle says before the next one is asked for leaves this one out.
            let bookmark = progress.revision();
            watched.bookmarks.push((watched.events.len(), bookmark));
            watched.events.push((batch.revision, changes));
            count += 1;
            if restless && count == 7 {
                break;
            }
        }
    }
}
