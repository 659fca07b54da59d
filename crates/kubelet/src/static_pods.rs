//! Pods that files name and the API does not: each file is one, for as long as it is there.
//!
//! The kernel tells when the directory changes. So that such pods are seen, each has a mirror in the API: a pod with the
//! annotation `kubernetes.io/config.mirror`, which shows the status and is made again when somebody deletes it; the pod
//! itself goes only with its file. A file that is being edited and cannot be read leaves its pod as it was. Upstream:
//! `pkg/kubelet/config/file_linux.go`, `pkg/kubelet/pod/mirror_client.go`.

mod file;
mod mirrors;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use pod_lifecycle::pod as parts;
use tokio::sync::Notify;

pub(crate) use mirrors::keep as keep_mirrors;
pub(crate) use watch::Watch;

/// On a mirror: the hash of the static pod that it shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What tells one version of a static pod from another.
const HASH: &str = "kubernetes.io/config.hash";

/// Namespace and name.
type Key = (String, String);

/// A change of what the files name.
pub(crate) enum Change {
    /// A pod is there.
    Added(Arc<Pod>),
    /// Its file is gone, or names another one.
    Removed(Arc<Pod>),
}

/// Static pods and their mirrors.
#[derive(Default)]
pub(crate) struct StaticPods {
    state: Mutex<State>,
    /// A pod that was on its way out is gone: another one of its name may begin.
    left: Notify,
    /// There may be something to do about a mirror.
    mirrors_changed: Notify,
}

#[derive(Default)]
struct State {
    running: HashMap<Key, Static>,
    /// Those on their way out; while one is, no other of its name begins.
    leaving: HashMap<Key, Arc<Pod>>,
    /// Mirrors of this node in the API.
    mirrors: HashMap<Key, Arc<Pod>>,
    /// All mirrors that were there have been seen.
    mirrors_known: bool,
}

/// A pod as its file has it.
#[derive(Clone)]
struct Static {
    file: PathBuf,
    /// Changes with what the file says.
    content: String,
    pod: Arc<Pod>,
}

fn key(pod: &Pod) -> Key {
    let text = |text: &str| text.to_owned();
    (text(parts::namespace(pod)), text(parts::name(pod)))
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Whether a pod of the API only shows a static one.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

fn shows(mirror: &Pod, pod: &Pod) -> bool {
    annotation(mirror, MIRROR) == annotation(pod, HASH)
}

impl StaticPods {
    /// Reads the files, and tells what changed since the last time.
    pub(crate) fn read(&self, path: &Path, node: &str) -> Vec<Change> {
        let files = match file::list(path) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "static pods cannot be listed");
                return Vec::new();
            }
        };
        let mut state = self.state.lock();
        let mut wanted = HashMap::new();
        for file in files {
            match file::read(&file, node) {
                Ok(found) => drop(wanted.insert(key(&found.pod), found)),
                Err(why) => {
                    tracing::warn!(file = %file.display(), why, "a file of static pods cannot be used");
                    let before = state.running.values().find(|s| s.file == file);
                    if let Some(before) = before {
                        let before = before.clone();
                        wanted.insert(key(&before.pod), before);
                    }
                }
            }
        }
        let changes = state.settle(wanted);
        drop(state);
        self.mirrors_changed.notify_one();
        changes
    }

    /// Whether a pod of this node came from a file.
    pub(crate) fn is_static(&self, uid: &str) -> bool {
        let state = self.state.lock();
        let running = state.running.values().map(|s| &s.pod);
        running
            .chain(state.leaving.values())
            .any(|pod| parts::uid(pod) == uid)
    }

    /// Completes when a pod that was on its way out is gone.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// The pod of this UID is gone.
    pub(crate) fn leave(&self, uid: &str) {
        let mut state = self.state.lock();
        let before = state.leaving.len();
        state.leaving.retain(|_, pod| parts::uid(pod) != uid);
        if state.leaving.len() < before {
            self.left.notify_one();
            self.mirrors_changed.notify_one();
        }
    }

    /// The mirror that shows this static pod, once it is there.
    pub(crate) fn mirror_of(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let state = self.state.lock();
        let mirror = state.mirrors.get(&key(pod));
        mirror.filter(|mirror| shows(mirror, pod)).cloned()
    }

    /// A mirror was seen, or it is gone. Returns the UID of the static pod that it shows.
    pub(crate) fn mirror_seen(&self, mirror: &Arc<Pod>, gone: bool) -> Option<String> {
        let (mut state, key) = (self.state.lock(), key(mirror));
        match gone {
            true => drop(state.mirrors.remove(&key)),
            false => drop(state.mirrors.insert(key.clone(), Arc::clone(mirror))),
        }
        self.mirrors_changed.notify_one();
        let running = state.running.get(&key).map(|s| &s.pod);
        let shown = running.or_else(|| state.leaving.get(&key));
        shown.map(|pod| parts::uid(pod).to_owned())
    }

    /// All mirrors that were there at the start have been seen.
    pub(crate) fn mirrors_known(&self) {
        self.state.lock().mirrors_known = true;
        self.mirrors_changed.notify_one();
    }
}

impl State {
    fn settle(&mut self, wanted: HashMap<Key, Static>) -> Vec<Change> {
        let mut changes = Vec::new();
        let stays = |key: &Key, old: &Static| {
            let new = wanted.get(key);
            new.is_some_and(|new| new.content == old.content)
        };
        let gone: Vec<Key> = self
            .running
            .iter()
            .filter(|(key, old)| !stays(key, old))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some(old) = self.running.remove(&key) {
                self.leaving.insert(key, Arc::clone(&old.pod));
                changes.push(Change::Removed(old.pod));
            }
        }
        for (key, new) in wanted {
            match self.running.get_mut(&key) {
                Some(running) => running.file = new.file,
                None if self.leaving.contains_key(&key) => {}
                None => {
                    changes.push(Change::Added(Arc::clone(&new.pod)));
                    self.running.insert(key, new);
                }
            }
        }
        changes
    }
}
