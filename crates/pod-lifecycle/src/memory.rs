//! What a kubelet knows about a pod beyond what runtime and API tell: what is under way, what failed, what probes said.
//!
//! All of it may be lost with the process: then operations are decided again, back-offs begin anew, probes are asked again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::admission::Rejection;
use crate::backoff::{Backoff, retry_seconds};
use crate::plan::{Action, Kill, Start};
use crate::probe::{Kind, ProbeState};
use crate::resize::Limits;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Why the node does not take the pod: reason and message. Decided once, before anything else.
    pub rejection: Option<(String, String)>,
    /// The volumes of the pod.
    pub volumes: Volumes,
    /// The last failure to make the volumes, so that waits grow.
    pub volume_failure: Option<Failure>,
    /// A sandbox is being made.
    pub creating_sandbox: bool,
    /// The last attempt to make a sandbox failed.
    pub sandbox_failure: Option<Failure>,
    /// Sandboxes that are being stopped.
    pub stopping_sandboxes: BTreeSet<String>,
    /// Sandboxes that were stopped for good, of a pod that ended.
    pub stopped_sandboxes: BTreeSet<String>,
    /// Containers and sandboxes that are being removed.
    pub removing: BTreeSet<String>,
    /// The one container that is being started.
    pub starting: Option<Start>,
    /// Containers whose start failed, by name.
    pub start_failures: BTreeMap<String, StartFailure>,
    /// Restart back-offs by container name.
    pub backoffs: BTreeMap<String, Backoff>,
    /// Back-offs that the user has been told of, by container name: the end of the wait.
    pub told_backoff: BTreeMap<String, Timestamp>,
    /// Containers being killed, by id.
    pub kills: BTreeMap<String, Killing>,
    /// Probes by container id.
    pub probes: BTreeMap<(String, Kind), ProbeState>,
    /// Why the node does not give the containers the resources that they are to have now.
    pub resize_refused: Option<Rejection>,
    /// Resources are being changed.
    pub resizing: bool,
    /// The limits that are being set, by container id.
    pub asked: BTreeMap<String, Limits>,
    /// The limits that were set, whatever the runtime tells.
    pub given: BTreeMap<String, Limits>,
    /// The limits of the pod as a whole are lifted while those of its containers change.
    pub lifted: bool,
    /// The last failure to change resources.
    pub resize_failure: Option<Failure>,
    /// When this kubelet began with the pod: what ran before then was ready if the API says so.
    pub since: Option<Timestamp>,
    /// The last status of a pod that ended is being published.
    pub publishing_final: bool,
    /// The last status of a pod that ended has been published.
    pub final_status_published: bool,
    /// The object has been asked to go.
    pub deleting: bool,
}

/// The state of a pod's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// Nothing is there, as far as we know.
    #[default]
    Absent,
    /// They are being made.
    Mounting,
    /// They are there.
    Mounted,
    /// They could not be made.
    Failed(Failure),
    /// They are being taken away.
    Unmounting,
    /// They are gone for good.
    Gone,
}

/// Something did not work and is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How often in a row.
    pub count: u32,
    /// What happened.
    pub message: String,
    /// When to try again.
    pub retry_at: Timestamp,
}

impl Failure {
    /// One more failure after `previous`.
    pub fn again(previous: Option<&Failure>, message: String, now: Timestamp) -> Failure {
        let count = previous.map_or(0, |f| f.count) + 1;
        Failure {
            count,
            message,
            retry_at: crate::pod::after(now, retry_seconds(count)),
        }
    }
}

/// A container could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// The waiting reason: `ErrImagePull`, `CreateContainerConfigError`, ...
    pub reason: String,
    /// The waiting message.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
    /// The delay of the last pull.
    pub pull: Option<Backoff>,
    /// When to try again.
    pub retry_at: Timestamp,
    /// The user has been told that we wait.
    pub told: bool,
}

/// How far the stop of a container is.
#[derive(Clone, Debug, PartialEq)]
pub struct Killing {
    /// What was decided.
    pub kill: Kill,
    /// When.
    pub since: Timestamp,
    /// Its pre-stop hook is still running.
    pub hook_running: bool,
    /// The stop signal has been sent with SIGKILL to follow at that time; `None`: not yet.
    pub stopping_until: Option<Timestamp>,
}

/// The failures that are about getting an image.
const PULL_REASONS: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

impl Memory {
    /// Takes note that an action is being carried out, so that it is not decided again.
    pub fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::MountVolumes => self.volumes = Volumes::Mounting,
            Action::UnmountVolumes => self.volumes = Volumes::Unmounting,
            Action::CreateSandbox { .. } => self.creating_sandbox = true,
            Action::StopSandbox { id } => {
                self.stopping_sandboxes.insert(id.clone());
            }
            Action::RemoveSandbox { id } | Action::RemoveContainer { id } => {
                self.removing.insert(id.clone());
            }
            Action::StartContainer(start) => self.begin_start(start),
            Action::Kill(kill) => self.begin_kill(kill, now),
            Action::StopContainer {
                id,
                timeout_seconds,
                ..
            } => {
                if let Some(killing) = self.kills.get_mut(id) {
                    killing.stopping_until = Some(crate::pod::after(now, *timeout_seconds));
                }
            }
            Action::Probe { kind, id, .. } => {
                let state = self.probes.entry((id.clone(), *kind)).or_default();
                state.running = true;
                state.last = Some(now);
            }
            Action::TellBackoff {
                name, image: true, ..
            } => {
                if let Some(failure) = self.start_failures.get_mut(name) {
                    failure.told = true;
                }
            }
            Action::TellBackoff { name, until, .. } => {
                self.told_backoff.insert(name.clone(), *until);
            }
            Action::Resize { containers, .. } => {
                self.resizing = true;
                let limits = containers.iter().map(|(id, r)| (id.clone(), Limits::of(r)));
                self.asked = limits.collect();
            }
            Action::DeletePod => self.deleting = true,
            Action::PublishFinal => self.publishing_final = true,
            Action::Event(_) | Action::Finished => {}
        }
    }

    /// A start was begun.
    pub fn begin_start(&mut self, start: &Start) {
        if let Some(backoff) = start.backoff {
            self.backoffs.insert(start.name.clone(), backoff);
        }
        self.told_backoff.remove(&start.name);
        self.starting = Some(start.clone());
    }

    /// The start under way succeeded.
    pub fn started(&mut self) {
        if let Some(start) = self.starting.take() {
            self.start_failures.remove(&start.name);
        }
    }

    /// The start under way failed.
    pub fn start_failed(&mut self, reason: &str, message: String, now: Timestamp) {
        let Some(start) = self.starting.take() else {
            return;
        };
        let previous = self.start_failures.get(&start.name);
        let is_pull = PULL_REASONS.contains(&reason);
        let pull = is_pull.then(|| Backoff::after_failure(previous.and_then(|f| f.pull), now));
        let seconds = pull.map_or(crate::backoff::INITIAL_SECONDS, |b| b.seconds);
        let failure = StartFailure {
            reason: reason.to_owned(),
            message,
            at: now,
            pull,
            retry_at: crate::pod::after(now, seconds),
            told: false,
        };
        self.start_failures.insert(start.name, failure);
    }

    /// A kill was begun.
    pub fn begin_kill(&mut self, kill: &Kill, now: Timestamp) {
        let killing = Killing {
            kill: kill.clone(),
            since: now,
            hook_running: kill.pre_stop,
            stopping_until: None,
        };
        self.kills.insert(kill.id.clone(), killing);
    }

    /// The change of resources under way is through; `settled`: the pod as a whole has its limits again.
    pub fn resized(&mut self, done: Result<(), String>, settled: bool, now: Timestamp) {
        self.resizing = false;
        let asked = std::mem::take(&mut self.asked);
        match done {
            Ok(()) => {
                self.given.extend(asked);
                self.lifted = !settled;
                self.resize_failure = None;
            }
            Err(message) => {
                self.lifted = true;
                let failure = Failure::again(self.resize_failure.as_ref(), message, now);
                self.resize_failure = Some(failure);
            }
        }
    }

    /// Forgets what is about containers that no longer exist.
    pub fn forget_gone(&mut self, containers: &[crate::view::Container]) {
        let exists = |id: &str| containers.iter().any(|c| c.id == id);
        self.kills.retain(|id, _| exists(id));
        self.given.retain(|id, _| exists(id));
        self.probes.retain(|(id, _), _| exists(id));
    }

    /// Something changed that a failed start may have waited for (a ConfigMap appeared): try again now.
    pub fn retry_starts(&mut self, now: Timestamp) {
        for failure in self.start_failures.values_mut() {
            if !PULL_REASONS.contains(&failure.reason.as_str()) {
                failure.retry_at = now;
            }
        }
        if let Volumes::Failed(failure) = &mut self.volumes {
            failure.retry_at = now;
        }
    }
}
