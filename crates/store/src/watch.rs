//! Watches: a cursor over the retained history, woken when something for it was published.
//!
//! Contract: a watcher owns no queue. It remembers the next revision to look at and reads the
//! history from there, so that a slow reader holds nothing, and a reader that falls behind a
//! compaction gets [`StoreError::Compacted`] and then the end of the stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::Notify;

use crate::history::History;
use crate::published::Published;
use crate::{Batch, Event, RangeEnd, Revision, StoreError};

/// The stream of a watch. After an error it ends.
pub struct WatchStream {
    batches: BoxStream<'static, Result<Batch, StoreError>>,
    progress: WatchProgress,
}

impl WatchStream {
    /// Puts a stream together, for engines. `progress` says up to which revision everything was
    /// delivered and taken.
    pub fn new(
        batches: BoxStream<'static, Result<Batch, StoreError>>,
        progress: impl Fn() -> Revision + Send + Sync + 'static,
    ) -> WatchStream {
        WatchStream {
            batches,
            progress: WatchProgress(Arc::new(progress)),
        }
    }

    /// A handle that tells how far the reader has come, usable while another task reads.
    pub fn progress(&self) -> WatchProgress {
        self.progress.clone()
    }
}

impl Stream for WatchStream {
    type Item = Result<Batch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

/// How far a watch has come; what bookmarks and reads from a watch cache are made of.
#[derive(Clone)]
pub struct WatchProgress(Arc<dyn Fn() -> Revision + Send + Sync>);

impl WatchProgress {
    /// Every matching event up to and including this revision was yielded, *and* the reader has
    /// asked for the next one since, so it is done with it. When nothing for this watch is under
    /// way this is the store's current revision, or the one before `from` if that is later.
    pub fn revision(&self) -> Revision {
        (self.0)()
    }
}

/// Commits looked at in one go under the lock.
const LOOK: usize = 512;
/// Batches taken in one go.
const TAKE: usize = 64;

/// The embedded engine's side of a watch: what it wants and how far it is.
///
/// The fields change only under the lock of [`Published`]: by a publisher that holds it for
/// writing, or by the one reader that holds it for reading, so the two never meet.
pub(crate) struct Cursor {
    start: Bytes,
    end: RangeEnd,
    /// The first revision that has not been looked at.
    next: AtomicU64,
    /// Nothing up to the current revision is left to be looked at or to be taken.
    idle: AtomicBool,
    /// While not idle: all up to here was yielded and taken.
    taken: AtomicU64,
    wake: Notify,
}

/// What a look at the history brought.
pub(crate) enum Look {
    Batches(Vec<Batch>),
    /// Nothing yet, but there is more to look at.
    More,
    /// Nothing until [`Cursor::published`] says so.
    Idle,
    Ended(StoreError),
}

impl Cursor {
    pub(crate) fn new(start: Bytes, end: RangeEnd, from: Revision) -> Arc<Cursor> {
        // Revision 1 is that of the empty store and has no events.
        let from = from.max(2);
        Arc::new(Cursor {
            start,
            end,
            next: AtomicU64::new(from),
            idle: AtomicBool::new(false),
            taken: AtomicU64::new(from - 1),
            wake: Notify::new(),
        })
    }

    /// Whether the history still reaches back to the cursor.
    pub(crate) fn check(&self, history: &History) -> Result<(), StoreError> {
        let (requested, compacted) = (self.next.load(Relaxed), history.compacted());
        if requested <= compacted {
            return Err(StoreError::Compacted {
                requested,
                compacted,
            });
        }
        Ok(())
    }

    fn wants(&self, batch: &Batch) -> bool {
        batch
            .events
            .iter()
            .any(|event| self.end.contains(&self.start, &event.kv.key))
    }

    /// Called for each new commit, under the lock.
    pub(crate) fn published(&self, batch: &Batch) {
        let due = self.idle.load(Relaxed) && batch.revision >= self.next.load(Relaxed);
        if due && self.wants(batch) {
            self.idle.store(false, Relaxed);
            self.next.store(batch.revision, Relaxed);
            self.taken.store(batch.revision - 1, Relaxed);
            self.wake.notify_one();
        }
    }

    /// The history is another one; called under the lock.
    pub(crate) fn look_again(&self) {
        if self.idle.swap(false, Relaxed) {
            self.taken.store(self.next.load(Relaxed) - 1, Relaxed);
        }
        self.wake.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Looks at the next commits. Everything yielded before has been taken.
    pub(crate) fn look(&self, published: &Published) -> Look {
        let inner = published.read();
        if published.is_closed() {
            return Look::Ended(StoreError::Closed);
        }
        if self.idle.load(Relaxed) {
            return Look::Idle;
        }
        let history = &inner.history;
        if let Err(error) = self.check(history) {
            return Look::Ended(error);
        }
        let mut next = self.next.load(Relaxed);
        self.taken.store(next - 1, Relaxed);
        let mut batches = Vec::new();
        for _ in 0..LOOK {
            let Some(commit) = history.commit(next) else {
                break;
            };
            batches.extend(self.select(&commit.batch));
            next += 1;
            if batches.len() == TAKE {
                break;
            }
        }
        self.next.store(next, Relaxed);
        if !batches.is_empty() {
            return Look::Batches(batches);
        }
        if next <= history.revision() {
            return Look::More;
        }
        self.idle.store(true, Relaxed);
        Look::Idle
    }

    /// The part of a batch that the watch is about; the whole of it is shared.
    fn select(&self, batch: &Batch) -> Option<Batch> {
        let wanted = |event: &&Event| self.end.contains(&self.start, &event.kv.key);
        match batch.events.iter().filter(wanted).count() {
            0 => None,
            all if all == batch.events.len() => Some(batch.clone()),
            _ => {
                let events = batch.events.iter().filter(wanted).cloned().collect();
                Some(Batch {
                    revision: batch.revision,
                    events,
                })
            }
        }
    }

    fn progress(&self, published: &Published) -> Revision {
        let inner = published.read();
        if self.idle.load(Relaxed) {
            inner.history.revision().max(self.next.load(Relaxed) - 1)
        } else {
            self.taken.load(Relaxed)
        }
    }
}

/// A registered cursor; leaves the registry when it is dropped.
struct Registered {
    published: Arc<Published>,
    cursor: Arc<Cursor>,
    /// Looked up and not yet yielded.
    ready: VecDeque<Batch>,
    ended: bool,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.published.unregister(&self.cursor);
    }
}

impl Registered {
    async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                // Asking for this one says that those before it are done with.
                self.cursor.taken.fetch_max(batch.revision - 1, Relaxed);
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            match self.cursor.look(&self.published) {
                Look::Batches(batches) => self.ready = batches.into(),
                Look::More => tokio::task::yield_now().await,
                Look::Idle => self.cursor.wake.notified().await,
                Look::Ended(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Begins a watch.
pub(crate) fn watch(
    published: &Arc<Published>,
    start: Bytes,
    end: RangeEnd,
    from: Revision,
) -> Result<WatchStream, StoreError> {
    let cursor = Cursor::new(start, end, from);
    published.register(cursor.clone())?;
    let registered = Registered {
        published: published.clone(),
        cursor: cursor.clone(),
        ready: VecDeque::new(),
        ended: false,
    };
    let batches = futures::stream::unfold(registered, async |mut registered| {
        let item = registered.next().await?;
        Some((item, registered))
    });
    let published = published.clone();
    Ok(WatchStream::new(batches.boxed(), move || {
        cursor.progress(&published)
    }))
}
