//! Which pod is next.
//!
//! A pod is *active* (to be tried now), *backing off* (tried lately, to be tried again at a known time), *waiting* (did
//! not fit; tried again when something happens that could help) or *gated* (not to be tried until its gates are gone).
//! Higher priority goes first, then the older pod. Behaviour follows kube-scheduler's scheduling queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use crate::pod::{PodInfo, PodKey};

/// The first wait after a failure; it doubles with each one.
pub const BACKOFF_START: Duration = Duration::from_secs(1);
/// The longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What upstream calls the end of an attempt that failed.
const FAILURE: &str = "ScheduleAttemptFailure";

/// What happened in the cluster that may help a waiting pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A node came, or changed in a way that could matter.
    NodeChanged,
    /// A pod left a node, or changed its labels.
    PodLeft,
    /// A pod was bound.
    PodBound,
    /// A claim, a volume, a class or what CSI drivers say of a node changed.
    StorageChanged,
}

impl Wake {
    /// It may change what this plug-in says.
    fn helps(self, plugin: &str) -> bool {
        match self {
            Self::NodeChanged => true,
            Self::PodLeft => matches!(
                plugin,
                "NodeResourcesFit"
                    | "NodePorts"
                    | "InterPodAffinity"
                    | "PodTopologySpread"
                    | "VolumeRestrictions"
                    | "NodeVolumeLimits"
            ),
            Self::StorageChanged => matches!(
                plugin,
                "VolumeBinding" | "VolumeRestrictions" | "VolumeZone" | "NodeVolumeLimits"
            ),
            Self::PodBound => matches!(plugin, "InterPodAffinity" | "PodTopologySpread"),
        }
    }
}

#[derive(Debug)]
struct Entry {
    pod: PodInfo,
    tries: Tries,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Active,
    /// Until this time.
    BackingOff(Timestamp),
    /// Refused by these plug-ins; not before this time.
    Waiting(BTreeSet<&'static str>, Timestamp),
    Gated,
    /// Handed out by [`Queue::pop`]; true: something happened meanwhile that could help.
    InFlight(bool),
}

/// How a pod fared so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How often it was handed out.
    pub attempts: u32,
    /// Since when it could have been; none as long as it is gated.
    pub since: Option<Timestamp>,
}

/// How many pods wait, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// To be tried now.
    pub active: usize,
    /// To be tried at a known time.
    pub backing_off: usize,
    /// To be tried when something happens.
    pub waiting: usize,
    /// Not to be tried.
    pub gated: usize,
    /// Those of `waiting` by the plug-ins that refused them.
    pub by_plugin: BTreeMap<&'static str, usize>,
}

/// How often pods came into a part of the queue (upstream's name for it), and by which event.
pub type Incoming = BTreeMap<(&'static str, &'static str), u64>;

type Rank = (Reverse<i32>, Option<Timestamp>, PodKey);

/// All pods that wait for a node.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<PodKey, Entry>,
    active: BTreeSet<Rank>,
    backing_off: BTreeSet<(Timestamp, PodKey)>,
    incoming: Incoming,
}

fn rank(pod: &PodInfo) -> Rank {
    (Reverse(pod.priority), pod.created, pod.key.clone())
}

impl Queue {
    /// No pods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a new or changed pod. A change of the pod itself makes it worth another try.
    pub fn set(&mut self, pod: PodInfo, now: Timestamp) {
        let key = pod.key.clone();
        let old = self.remove(&key);
        if old.as_ref().is_some_and(|old| old.pod == pod) {
            let old = old.expect("just looked at");
            return self.insert(Entry { pod, ..old });
        }
        let mut tries = old.as_ref().map_or_else(Tries::default, |old| old.tries);
        let event = match &old {
            None => "UnscheduledPodAdd",
            Some(_) => "UnscheduledPodUpdate",
        };
        let state = match old.map(|old| old.state) {
            _ if !pod.gates.is_empty() => State::Gated,
            Some(State::InFlight(_)) => State::InFlight(true),
            _ => State::Active,
        };
        if state != State::Gated {
            tries.since = tries.since.or(Some(now));
        }
        self.count(&state, event);
        self.insert(Entry { pod, tries, state });
    }

    /// Forgets a pod: bound, deleted, or somebody else's.
    pub fn delete(&mut self, key: &PodKey) {
        self.remove(key);
    }

    /// The next pod to try.
    pub fn pop(&mut self, now: Timestamp) -> Option<PodInfo> {
        while let Some((due, key)) = self.backing_off.first().cloned() {
            if due > now {
                break;
            }
            self.put(&key, State::Active, "BackoffComplete");
        }
        let (_, _, key) = self.active.first()?.clone();
        self.put(&key, State::InFlight(false), "");
        let entry = self
            .entries
            .get_mut(&key)
            .expect("active pods have an entry");
        entry.tries.attempts += 1;
        Some(entry.pod.clone())
    }

    /// How a pod fared so far.
    pub fn tries(&self, key: &PodKey) -> Tries {
        let entry = self.entries.get(key);
        entry.map_or_else(Tries::default, |entry| entry.tries)
    }

    /// How often pods came into which part of the queue.
    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// How many pods wait.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for entry in self.entries.values() {
            match &entry.state {
                State::Active => pending.active += 1,
                State::BackingOff(_) => pending.backing_off += 1,
                State::Gated => pending.gated += 1,
                State::InFlight(_) => {}
                State::Waiting(plugins, _) => {
                    pending.waiting += 1;
                    for plugin in plugins {
                        *pending.by_plugin.entry(plugin).or_default() += 1;
                    }
                }
            }
        }
        pending
    }

    /// A pod that was handed out fits nowhere.
    pub fn unschedulable(&mut self, key: &PodKey, plugins: BTreeSet<&'static str>, now: Timestamp) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let due = now + backoff(entry.tries.attempts);
        let state = match entry.state {
            State::InFlight(true) => State::BackingOff(due),
            State::InFlight(false) => State::Waiting(plugins, due),
            _ => return,
        };
        self.put(key, state, FAILURE);
    }

    /// A pod that was handed out could not be bound for a reason of the moment.
    pub fn failed(&mut self, key: &PodKey, now: Timestamp) {
        if let Some(entry) = self.entries.get(key) {
            let due = now + backoff(entry.tries.attempts);
            self.put(key, State::BackingOff(due), FAILURE);
        }
    }

    /// Something happened, which upstream calls `event`: waiting pods that it may help are to be tried again.
    pub fn wake(&mut self, wake: Wake, event: &'static str, now: Timestamp) {
        let mut moved = Vec::new();
        for (key, entry) in &mut self.entries {
            match &mut entry.state {
                State::Waiting(plugins, due)
                    if plugins.is_empty() || plugins.iter().any(|plugin| wake.helps(plugin)) =>
                {
                    moved.push((key.clone(), *due));
                }
                State::InFlight(helped) => *helped = true,
                _ => {}
            }
        }
        for (key, due) in moved {
            let state = if due > now {
                State::BackingOff(due)
            } else {
                State::Active
            };
            self.put(&key, state, event);
        }
    }

    /// When the next pod is to be tried, if one only waits for time to pass.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.backing_off.first().map(|(due, _)| *due)
    }

    fn count(&mut self, state: &State, event: &'static str) {
        let queue = match state {
            State::Active => "active",
            State::BackingOff(_) => "backoff",
            State::Waiting(..) => "unschedulable",
            State::Gated | State::InFlight(_) => return,
        };
        *self.incoming.entry((queue, event)).or_default() += 1;
    }

    fn put(&mut self, key: &PodKey, state: State, event: &'static str) {
        if let Some(entry) = self.remove(key) {
            self.count(&state, event);
            self.insert(Entry { state, ..entry });
        }
    }

    fn insert(&mut self, entry: Entry) {
        match &entry.state {
            State::Active => {
                self.active.insert(rank(&entry.pod));
            }
            State::BackingOff(due) => {
                self.backing_off.insert((*due, entry.pod.key.clone()));
            }
            State::Waiting(..) | State::Gated | State::InFlight(_) => {}
        }
        self.entries.insert(entry.pod.key.clone(), entry);
    }

    fn remove(&mut self, key: &PodKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        match &entry.state {
            State::Active => {
                self.active.remove(&rank(&entry.pod));
            }
            State::BackingOff(due) => {
                self.backing_off.remove(&(*due, key.clone()));
            }
            State::Waiting(..) | State::Gated | State::InFlight(_) => {}
        }
        Some(entry)
    }
}

fn backoff(attempts: u32) -> Duration {
    let doubled = BACKOFF_START.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    doubled.min(BACKOFF_MAX)
}
