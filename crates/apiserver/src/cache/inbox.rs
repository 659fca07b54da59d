//! Watchers whose selector names the value of a field (`spec.nodeName=a`): each is handed its own changes and woken for
//! them alone, so that a change costs what its watchers cost, however many others there are.
//!
//! Contract: from the moment a cursor has caught up with the window, its inbox gets every change that touches its value,
//! before or after, in order. That moment and the changes are kept apart by the cache's lock. An inbox that is not emptied
//! is lost like any reader that is too slow.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Cache, Change, Entry, Selection};

/// So many changes wait for one watcher.
const MOST: usize = 1024;

/// The changes that wait for one watcher.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    open: bool,
    lost: bool,
    changes: VecDeque<Arc<Change>>,
}

impl Inbox {
    /// From now on changes are kept. Only under the cache's lock.
    pub(super) fn open(&self) {
        self.queue.lock().open = true;
    }

    /// The next changes and whether these were all; `None` when some are lost.
    pub(super) fn take(&self, most: usize) -> Option<(Vec<Arc<Change>>, bool)> {
        let mut queue = self.queue.lock();
        if queue.lost {
            return None;
        }
        let count = most.min(queue.changes.len());
        let changes = queue.changes.drain(..count).collect();
        Some((changes, queue.changes.is_empty()))
    }

    fn put(&self, change: &Arc<Change>) {
        {
            let mut queue = self.queue.lock();
            if !queue.open || queue.lost {
                return;
            }
            if queue.changes.len() == MOST {
                queue.lost = true;
                queue.changes = VecDeque::new();
            } else {
                queue.changes.push_back(change.clone());
            }
        }
        self.wake();
    }

    fn wake(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

type Values = HashMap<Box<str>, Vec<Arc<Inbox>>>;

/// The inboxes of one resource, by field and value.
#[derive(Default)]
pub(super) struct Inboxes(RwLock<HashMap<Box<str>, Values>>);

impl Inboxes {
    /// Hands a change to those it is for. Only under the cache's lock.
    pub(super) fn put(&self, change: &Arc<Change>) {
        for (field, values) in self.0.read().iter() {
            let value = |entry: &Arc<Entry>| entry.field(field).unwrap_or("").to_owned();
            let new = value(&change.object);
            let to = |value: &str| values.get(value).into_iter().flatten();
            to(&new).for_each(|inbox| inbox.put(change));
            let old = change.previous.as_ref().map(value);
            if let Some(old) = old.filter(|old| *old != new) {
                to(&old).for_each(|inbox| inbox.put(change));
            }
        }
    }

    /// Wakes every watcher: what was is void, or much has happened that was not for them.
    pub(super) fn wake(&self) {
        let fields = self.0.read();
        let inboxes = fields.values().flat_map(HashMap::values).flatten();
        inboxes.for_each(|inbox| inbox.wake());
    }
}

/// A watcher's place among those to be woken; it ends with the value.
pub(crate) struct Subscription {
    cache: Arc<Cache>,
    /// Field, value and inbox of a watcher that has one of its own.
    own: Option<(Box<str>, Box<str>, Arc<Inbox>)>,
    /// Marked when there may be something to read.
    pub(crate) changed: watch::Receiver<u64>,
}

impl Subscription {
    /// Subscribes a watcher with this selection.
    pub(crate) fn new(cache: &Arc<Cache>, selection: &Selection) -> Self {
        let cache = cache.clone();
        let named = selection.fields.requirements().iter().find(|r| r.equal);
        let Some(named) = named else {
            let changed = cache.subscribe();
            return Self {
                cache,
                own: None,
                changed,
            };
        };
        let (sender, changed) = watch::channel(0);
        let inbox = Arc::new(Inbox {
            queue: Mutex::default(),
            changed: sender,
        });
        let (field, value): (Box<str>, Box<str>) =
            (named.field.as_str().into(), named.value.as_str().into());
        let mut fields = cache.inboxes.0.write();
        let values = fields.entry(field.clone()).or_default();
        values.entry(value.clone()).or_default().push(inbox.clone());
        drop(fields);
        Self {
            cache,
            own: Some((field, value, inbox)),
            changed,
        }
    }

    /// The inbox of its own.
    pub(crate) fn inbox(&self) -> Option<Arc<Inbox>> {
        self.own.as_ref().map(|(_, _, inbox)| inbox.clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some((field, value, inbox)) = &self.own else {
            return;
        };
        let mut fields = self.cache.inboxes.0.write();
        let Some(values) = fields.get_mut(field) else {
            return;
        };
        if let Some(inboxes) = values.get_mut(value) {
            inboxes.retain(|other| !Arc::ptr_eq(other, inbox));
            if inboxes.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            fields.remove(field);
        }
    }
}
