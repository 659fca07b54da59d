//! The watch cache: the current objects of one resource and its latest changes, fed by one watch of the store.
//!
//! Contract: what a reader gets is some state of the store, whole. [`Cache::snapshot`] after [`Cache::wait_for`] is at
//! least as new as the revision waited for; a [`Cursor`] yields every change after its revision once and in order, or
//! says that it cannot. Objects are not copied: readers share each version's bytes with the store. One lock per
//! resource, held for a few pointers' time. Nothing polls.

mod encoded;
mod entry;
mod feed;
mod frame;
mod inbox;
mod waiters;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::KindRef;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use machinery::{ApiError, Object};
use parking_lot::RwLock;
use store::{EventKind, Revision, Store, WatchProgress};
use tokio::sync::watch;

use crate::protobuf::MessageId;
use encoded::Encodings;
pub(crate) use entry::{Entry, Selection, decode_stored, spliced};
use frame::Frames;
pub(crate) use frame::{Wire, write_event, write_value_event};
pub(crate) use inbox::Subscription;
use inbox::{Inbox, Inboxes};
use waiters::Waiters;

/// At most this many changes are kept for watchers to resume from ...
const WINDOW_EVENTS: usize = 2048;
/// ... and no more than about this many bytes of objects, but never less than [`WINDOW_MIN_EVENTS`].
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_MIN_EVENTS: usize = 64;
/// How long a reader waits for a revision that is said to exist.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// One change of one object, as watchers share it.
pub(crate) struct Change {
    /// The revision that made it.
    pub(crate) revision: Revision,
    /// Whether the object was written or removed.
    pub(crate) kind: EventKind,
    /// The object after the change; for a removal its last state under the removal's revision.
    pub(crate) object: Arc<Entry>,
    /// The object before the change.
    pub(crate) previous: Option<Arc<Entry>>,
    frames: Frames,
}

/// What a watcher is told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Added,
    Modified,
    Deleted,
}

impl Told {
    /// The `type` of the watch event.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Change {
    /// What somebody who sees only a selection of the objects is told: entering it is ADDED, leaving it is DELETED.
    pub(crate) fn told(&self, selection: &Selection) -> Option<Told> {
        let before = self.previous.as_ref().is_some_and(|p| p.matches(selection));
        let after = self.kind == EventKind::Put && self.object.matches(selection);
        match (before, after) {
            (false, true) => Some(Told::Added),
            (true, true) => Some(Told::Modified),
            (true, false) => Some(Told::Deleted),
            (false, false) => None,
        }
    }

    /// The state that goes with what is told.
    pub(crate) fn state(&self, told: Told) -> Arc<Entry> {
        match (told, &self.previous) {
            (Told::Deleted, Some(previous)) => Arc::new(previous.at(self.revision)),
            _ => self.object.clone(),
        }
    }
}

struct State {
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    window: VecDeque<Arc<Change>>,
    window_bytes: usize,
    /// The number of the first change in the window, counted from the cache's start.
    first_sequence: u64,
    /// A watch may begin after any revision from here on.
    oldest: Revision,
    /// The last revision that was applied.
    applied: Revision,
    /// Grows when the cache had to be read anew: cursors of before are void.
    epoch: u64,
}

/// Somebody in this process who follows a resource: told of every change, in order, while the
/// cache is locked; it must not read the same cache.
pub(crate) type Follower = Box<dyn Fn(&Change) + Send + Sync>;

/// The cache of one resource.
pub(crate) struct Cache {
    kind: KindRef,
    prefix: Bytes,
    store: Arc<dyn Store>,
    state: RwLock<State>,
    followers: Vec<Follower>,
    /// Bumped after each batch of changes.
    changed: watch::Sender<u64>,
    /// Readers who wait for a revision.
    waiters: Waiters,
    progress: ArcSwapOption<WatchProgress>,
    encodings: Encodings,
    inboxes: Inboxes,
}

/// What a cache has heard of.
pub(crate) struct Heard {
    pub(crate) changes: u64,
    /// How often it has read all objects.
    pub(crate) reads: u64,
    /// So many changes it remembers at most.
    pub(crate) capacity: u64,
}

/// All objects of a selection at one revision.
pub(crate) struct Snapshot {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) revision: Revision,
    /// How many of the selection's namespace were left out by the limit; only counted when nothing else selects.
    pub(crate) remaining: usize,
}

/// A watcher's place in the sequence of changes.
pub(crate) struct Cursor {
    sequence: u64,
    epoch: u64,
    inbox: Option<Arc<Inbox>>,
    /// It has caught up with the window: from there on the inbox has all there is.
    reads_inbox: bool,
}

impl Cursor {
    fn new(sequence: u64, epoch: u64) -> Self {
        Self {
            sequence,
            epoch,
            inbox: None,
            reads_inbox: false,
        }
    }

    /// Reads from the subscription's inbox when it has caught up.
    pub(crate) fn listen(&mut self, subscription: &Subscription) {
        self.inbox = subscription.inbox();
    }
}

/// What a cursor found.
pub(crate) enum Step {
    /// Changes, and the revision up to which they are complete.
    Changes(Vec<Arc<Change>>, Revision),
    /// The reader was too slow; what it missed is no longer kept.
    Lost,
}

impl Cache {
    pub(crate) fn new(
        kind: KindRef,
        prefix: Bytes,
        store: Arc<dyn Store>,
        followers: Vec<Follower>,
    ) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            window: VecDeque::new(),
            window_bytes: 0,
            first_sequence: 0,
            oldest: 0,
            applied: 0,
            epoch: 0,
        };
        Self {
            kind,
            prefix,
            store,
            state: RwLock::new(state),
            followers,
            changed: watch::Sender::new(0),
            waiters: Waiters::default(),
            progress: ArcSwapOption::empty(),
            encodings: Encodings::default(),
            inboxes: Inboxes::default(),
        }
    }

    /// The revision up to which everything has been applied.
    fn revision(&self, state: &State) -> Revision {
        let progress = self.progress.load();
        progress
            .as_ref()
            .map_or(0, |p| p.revision())
            .max(state.applied)
    }

    /// Waits until the cache shows everything up to this revision.
    ///
    /// # Errors
    /// It did not come to that: the revision is in the future.
    pub(crate) async fn wait_for(&self, revision: Revision) -> Result<(), ApiError> {
        let reached = || self.revision(&self.state.read()) >= revision;
        if reached() {
            return Ok(());
        }
        let waiting = self.waiters.wait(revision);
        // It may have come just before.
        if reached() {
            return Ok(());
        }
        let called = tokio::time::timeout(FRESH_TIMEOUT, waiting.called());
        if called.await.is_err() {
            return Err(too_large_revision(
                revision,
                self.revision(&self.state.read()),
            ));
        }
        Ok(())
    }

    /// Waits until the cache shows the store's present state.
    pub(crate) async fn wait_fresh(&self) -> Result<(), ApiError> {
        let latest = self.store.latest().await;
        self.wait_for(latest.map_err(crate::server::store_error)?)
            .await
    }

    /// The current version of one object.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).cloned()
    }

    /// An object in protobuf, without its envelope; encoded once.
    pub(crate) fn protobuf(&self, entry: &Arc<Entry>, message: MessageId) -> Bytes {
        self.encodings.protobuf(entry, message)
    }

    /// The tree of one object.
    pub(crate) fn tree(&self, key: &str) -> Option<Arc<Object>> {
        self.get(key)?.tree()
    }

    /// The last revision that was applied.
    pub(crate) fn applied(&self) -> Revision {
        self.state.read().applied
    }

    /// What it has heard of since its start.
    pub(crate) fn heard(&self) -> Heard {
        let state = self.state.read();
        Heard {
            changes: state.first_sequence + state.window.len() as u64,
            reads: state.epoch + 1,
            capacity: WINDOW_EVENTS as u64,
        }
    }

    /// How many objects there are, and about how many bytes one has: the mean of the first few.
    pub(crate) fn measure(&self, sample: usize) -> (u64, u64) {
        let state = self.state.read();
        let sizes = state.objects.values().take(sample).map(|entry| entry.len());
        let sum: usize = sizes.sum();
        let count = state.objects.len();
        let average = sum / count.clamp(1, sample);
        (count as u64, average as u64)
    }

    /// The selected objects, at most `limit` of them (0: all).
    pub(crate) fn snapshot(&self, selection: &Selection, limit: usize) -> Snapshot {
        let state = self.state.read();
        Snapshot {
            revision: self.revision(&state),
            ..select(&state, selection, limit)
        }
    }

    /// The selected objects, and a cursor that goes on right after them.
    pub(crate) fn snapshot_and_cursor(&self, selection: &Selection) -> (Snapshot, Cursor) {
        let state = self.state.read();
        let snapshot = Snapshot {
            revision: self.revision(&state),
            ..select(&state, selection, 0)
        };
        let sequence = state.first_sequence + state.window.len() as u64;
        (snapshot, Cursor::new(sequence, state.epoch))
    }

    /// A cursor that yields every change after a revision.
    ///
    /// # Errors
    /// 410: changes after it are no longer kept.
    pub(crate) fn cursor_after(&self, revision: Revision) -> Result<Cursor, ApiError> {
        let state = self.state.read();
        if revision < state.oldest {
            let why = format!("too old resource version: {revision} ({})", state.oldest);
            return Err(ApiError::expired(why));
        }
        let passed = state
            .window
            .partition_point(|change| change.revision <= revision);
        let sequence = state.first_sequence + passed as u64;
        Ok(Cursor::new(sequence, state.epoch))
    }

    /// Moves a cursor over what has happened, at most `most` changes at a time.
    pub(crate) fn advance(&self, cursor: &mut Cursor, most: usize) -> Step {
        let state = self.state.read();
        if cursor.epoch != state.epoch {
            return Step::Lost;
        }
        if let (Some(inbox), true) = (&cursor.inbox, cursor.reads_inbox) {
            return match inbox.take(most) {
                Some((changes, true)) => Step::Changes(changes, self.revision(&state)),
                Some((changes, false)) => {
                    let last = changes.last().map_or(0, |last| last.revision);
                    Step::Changes(changes, last.saturating_sub(1))
                }
                None => Step::Lost,
            };
        }
        if cursor.sequence < state.first_sequence {
            return Step::Lost;
        }
        let from = (cursor.sequence - state.first_sequence) as usize;
        let changes: Vec<_> = state.window.iter().skip(from).take(most).cloned().collect();
        cursor.sequence += changes.len() as u64;
        let at_end = from + changes.len() >= state.window.len();
        if let (Some(inbox), true) = (&cursor.inbox, at_end) {
            inbox.open();
            cursor.reads_inbox = true;
        }
        let complete = match changes.last() {
            // Another change of the same revision may follow.
            Some(last) if !at_end => last.revision.saturating_sub(1),
            _ => self.revision(&state),
        };
        Step::Changes(changes, complete)
    }

    /// A receiver that is marked after each batch of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn select(state: &State, selection: &Selection, limit: usize) -> Snapshot {
    let start: &str = &selection.key_prefix;
    let mut range = state
        .objects
        .range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(|entry| entry.key.starts_with(start));
    let mut entries = Vec::new();
    let mut remaining = 0;
    while let Some(entry) = range.next() {
        if limit > 0 && entries.len() == limit {
            let matching = |e: &&Arc<Entry>| e.matches(selection);
            remaining = usize::from(entry.matches(selection)) + range.filter(matching).count();
            break;
        }
        if entry.matches(selection) {
            entries.push(entry.clone());
        }
    }
    Snapshot {
        entries,
        revision: 0,
        remaining,
    }
}

/// 504 for a revision that is not there yet, in upstream's words.
pub(crate) fn too_large_revision(wanted: Revision, current: Revision) -> ApiError {
    let why = format!("Too large resource version: {wanted}, current: {current}");
    let mut error = ApiError::timeout(why);
    let cause = (
        "ResourceVersionTooLarge".into(),
        "Too large resource version".into(),
        String::new(),
    );
    let details = machinery::status::Details {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..Default::default()
    };
    error.details = Some(Box::new(details));
    error
}
