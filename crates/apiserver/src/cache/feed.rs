//! How a cache is filled and kept up to date: a range, then one watch from there on, for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt};
use store::{
    Batch, Event, EventKind, KeyValue, Range, RangeEnd, Revision, StoreError, WatchStream,
};

use super::{Cache, Change, Entry, Frames, State, WINDOW_BYTES, WINDOW_EVENTS, WINDOW_MIN_EVENTS};

/// After a store elsewhere could not be read it is tried again so much later.
const AGAIN: Duration = Duration::from_millis(500);

impl Cache {
    /// Reads the present state.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn load(&self) -> Result<WatchStream, StoreError> {
        let found = self.store.range(Range::prefix(self.prefix.clone())).await?;
        let from = found.revision + 1;
        let watch = self
            .store
            .watch(self.prefix.clone(), RangeEnd::Prefix, from)
            .await?;
        let entries = found.kvs.iter().filter_map(|kv| self.entry(kv));
        let objects: BTreeMap<_, _> = entries.map(|e| (e.key.clone(), e)).collect();
        self.replace(objects, found.revision);
        self.progress.store(Some(Arc::new(watch.progress())));
        Ok(watch)
    }

    /// Applies what the watch brings until the store is closed.
    pub(crate) async fn follow(self: Arc<Self>, mut watch: WatchStream) {
        loop {
            let end = self.drain(&mut watch).await;
            match end {
                Some(StoreError::Closed) | None => return,
                Some(error) => {
                    tracing::warn!(prefix = ?self.prefix, %error, "watch cache starts anew")
                }
            }
            watch = loop {
                match self.load().await {
                    Ok(watch) => break watch,
                    Err(StoreError::Unavailable { reason }) => {
                        tracing::warn!(prefix = ?self.prefix, %reason, "watch cache waits");
                        tokio::time::sleep(AGAIN).await;
                    }
                    Err(error) => {
                        tracing::error!(prefix = ?self.prefix, %error, "watch cache stops");
                        return;
                    }
                }
            };
        }
    }

    async fn drain(&self, watch: &mut WatchStream) -> Option<StoreError> {
        loop {
            let next = futures::future::poll_fn(|cx| {
                let polled = std::pin::Pin::new(&mut *watch).poll_next(cx);
                if polled.is_pending() {
                    // Only now does the watch's progress count what was applied last.
                    self.waiters.call(self.revision(&self.state.read()));
                }
                match polled {
                    Poll::Ready(next) => Poll::Ready(next),
                    Poll::Pending => Poll::Pending,
                }
            });
            match next.await {
                Some(Ok(batch)) => self.apply(&batch),
                Some(Err(error)) => {
                    // The stream ends after an error; reading on says so.
                    let _ = watch.next().await;
                    return Some(error);
                }
                None => return None,
            }
        }
    }

    fn entry(&self, kv: &KeyValue) -> Option<Arc<Entry>> {
        match Entry::new(&*self.kind, &self.prefix, kv) {
            Ok(entry) => Some(Arc::new(entry)),
            Err(error) => {
                tracing::warn!(%error, "a stored object is left out");
                None
            }
        }
    }

    /// Takes a whole new state; followers see the difference.
    fn replace(&self, objects: BTreeMap<Arc<str>, Arc<Entry>>, revision: Revision) {
        let mut changes = Vec::new();
        {
            let mut state = self.state.write();
            for (key, old) in state
                .objects
                .iter()
                .filter(|(k, _)| !objects.contains_key(*k))
            {
                let gone = objects
                    .get(key)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(old.at(revision)));
                changes.push(change(revision, EventKind::Delete, gone, Some(old.clone())));
            }
            for (key, new) in &objects {
                let old = state.objects.get(key).cloned();
                if old.as_ref().is_none_or(|old| old.revision != new.revision) {
                    changes.push(change(revision, EventKind::Put, new.clone(), old));
                }
            }
            state.objects = objects;
            state.first_sequence += state.window.len() as u64;
            state.window.clear();
            state.window_bytes = 0;
            (state.oldest, state.applied) = (revision, revision);
            state.epoch += 1;
            self.tell(&changes);
        }
        self.changed.send_modify(|n| *n += 1);
        self.inboxes.wake();
    }

    fn apply(&self, batch: &Batch) {
        {
            let mut state = self.state.write();
            let one = |event| self.apply_one(&mut state, event);
            let changes: Vec<_> = batch.events.iter().filter_map(one).collect();
            self.tell(&changes);
            state.applied = batch.revision;
        }
        self.waiters.call(batch.revision);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Under the lock: whoever has waited for a revision finds the followers' views up to date too.
    fn tell(&self, changes: &[Arc<Change>]) {
        for change in changes {
            for follower in &self.followers {
                follower(change);
            }
        }
    }

    fn apply_one(&self, state: &mut State, event: &Event) -> Option<Arc<Change>> {
        let revision = event.kv.mod_revision;
        let change = match event.kind {
            EventKind::Put => {
                let entry = self.entry(&event.kv)?;
                let previous = state.objects.insert(entry.key.clone(), entry.clone());
                change(revision, EventKind::Put, entry, previous)
            }
            EventKind::Delete => {
                let key = event.kv.key.strip_prefix(&self.prefix[..])?;
                let previous = state.objects.remove(std::str::from_utf8(key).ok()?)?;
                let gone = Arc::new(previous.at(revision));
                change(revision, EventKind::Delete, gone, Some(previous))
            }
        };
        self.inboxes.put(&change);
        state.window_bytes += change.object.len();
        state.window.push_back(change.clone());
        // Those with inboxes of their own have bookmarks to send now and then.
        if (state.first_sequence + state.window.len() as u64).is_multiple_of(WINDOW_EVENTS as u64) {
            self.inboxes.wake();
        }
        trim(state);
        Some(change)
    }
}

fn trim(state: &mut State) {
    while state.window.len() > WINDOW_EVENTS
        || (state.window_bytes > WINDOW_BYTES && state.window.len() > WINDOW_MIN_EVENTS)
    {
        let Some(first) = state.window.pop_front() else {
            return;
        };
        state.window_bytes -= first.object.len();
        state.first_sequence += 1;
        state.oldest = first.revision;
    }
}

fn change(
    revision: Revision,
    kind: EventKind,
    object: Arc<Entry>,
    previous: Option<Arc<Entry>>,
) -> Arc<Change> {
    Arc::new(Change {
        revision,
        kind,
        object,
        previous,
        frames: Frames::default(),
    })
}
