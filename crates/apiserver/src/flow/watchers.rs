//! How many watchers hear of a change.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/watch_tracker.go`.

use std::collections::HashMap;
use std::sync::Arc;

use machinery::fields;
use parking_lot::Mutex;

use crate::call::Call;
use crate::request::RequestInfo;

/// Group, resource, namespace, name.
type Key = (String, String, String, String);

/// The watchers of the moment.
#[derive(Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<Key, u64>>>);

/// One watcher, as long as it is there.
pub(crate) struct Watcher {
    watchers: Watchers,
    key: Key,
}

impl Watchers {
    /// Counts a watcher in; none for one that is told of the changes of one node only.
    pub(crate) fn register(&self, call: &Call) -> Option<Watcher> {
        let info = &call.info;
        let by_node = info.resource == "pods" && {
            let selector = fields::Selector::parse(call.query.text("fieldSelector")).ok()?;
            let mut all = selector.requirements().iter();
            all.any(|r| r.field == "spec.nodeName" && r.equal && !r.value.is_empty())
        };
        if by_node {
            return None;
        }
        let key = (
            info.group.clone(),
            info.resource.clone(),
            info.namespace.clone(),
            info.name.clone(),
        );
        *self.0.lock().entry(key.clone()).or_default() += 1;
        let watchers = self.clone();
        Some(Watcher { watchers, key })
    }

    /// How many hear of what a request changes.
    pub(super) fn interested(&self, info: &RequestInfo) -> u64 {
        let watchers = self.0.lock();
        if watchers.is_empty() {
            return 0;
        }
        let none = String::new;
        let mut key = (info.group.clone(), info.resource.clone(), none(), none());
        let mut sum = watchers.get(&key).copied().unwrap_or(0);
        for part in [&info.namespace, &info.name] {
            if part.is_empty() {
                continue;
            }
            if std::ptr::eq(part, &info.namespace) {
                key.2.clone_from(part);
            } else {
                key.3.clone_from(part);
            }
            sum += watchers.get(&key).copied().unwrap_or(0);
        }
        sum
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watchers = self.watchers.0.lock();
        if let Some(count) = watchers.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                watchers.remove(&self.key);
            }
        }
    }
}
