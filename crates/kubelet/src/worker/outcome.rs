//! What comes back from the things that take time, and what it changes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use pod_lifecycle::memory::{Failure, Volumes};
use pod_lifecycle::probe::Kind;
use pod_lifecycle::{Event, pod as parts};

use super::Worker;
use crate::operations::StartError;
use crate::volumes::{self, VolumeError};
use crate::{probes, status};

/// How long to wait after volumes could not be written anew.
const REFRESH_RETRY_SECONDS: i64 = 10;

/// What came of something that took time.
pub(super) enum Outcome {
    /// Volumes were made.
    Mounted(Result<volumes::Mounted, VolumeError>),
    /// Volumes were written anew.
    Refreshed(Result<volumes::Mounted, VolumeError>),
    /// Volumes were taken away.
    Unmounted(Result<(), String>),
    /// A sandbox was made.
    Sandbox(Result<(), String>),
    /// A sandbox was stopped.
    SandboxStopped(String, Result<(), cri::Error>),
    /// A sandbox or a container was removed.
    Removed(String, Result<(), cri::Error>),
    /// A container was started.
    Started(Result<(), StartError>),
    /// A pre-stop hook is through.
    HookDone(String),
    /// A container was stopped.
    Stopped(String, Result<(), cri::Error>),
    /// Resources were changed; whether the pod as a whole has its limits again.
    Resized(Result<(), String>, bool),
    /// A container was probed: which probe, its name, its id.
    Probed(Kind, String, String, probes::Outcome),
    /// That status was published.
    Published(Box<PodStatus>, Result<(), status::Error>),
    /// The object was deleted.
    Deleted(Result<(), Box<kube::Error>>),
}

impl Worker {
    /// Takes an outcome over into what the next decision looks at.
    pub(super) fn absorb(&mut self, outcome: Outcome) {
        let now = Timestamp::now();
        match outcome {
            Outcome::Mounted(done) => self.mounted(done, now),
            Outcome::Refreshed(done) => self.refreshed(done, now),
            Outcome::Unmounted(done) => {
                self.memory.volumes = match done {
                    Ok(()) => Volumes::Gone,
                    Err(error) => {
                        tracing::warn!(pod = parts::name(&self.pod), error, "cannot unmount");
                        Volumes::Gone
                    }
                };
            }
            Outcome::Sandbox(done) => self.sandbox_made(done, now),
            Outcome::SandboxStopped(id, done) => {
                self.memory.stopping_sandboxes.remove(&id);
                self.note(&done);
                self.memory.stopped_sandboxes.insert(id);
                self.stale = true;
            }
            Outcome::Removed(id, done) => {
                self.note(&done);
                self.memory.removing.remove(&id);
                self.stale = true;
            }
            Outcome::Started(done) => {
                match done {
                    Ok(()) => self.memory.started(),
                    Err(e) => self.memory.start_failed(e.reason, e.message, now),
                }
                self.stale = true;
            }
            Outcome::HookDone(id) => {
                if let Some(killing) = self.memory.kills.get_mut(&id) {
                    killing.hook_running = false;
                }
            }
            Outcome::Stopped(id, done) => {
                if done.is_err()
                    && let Some(killing) = self.memory.kills.get_mut(&id)
                {
                    killing.stopping_until = None;
                }
                self.note(&done);
                self.stale = true;
            }
            Outcome::Resized(done, settled) => {
                if let Err(error) = &done {
                    tracing::warn!(pod = parts::name(&self.pod), error, "cannot resize the pod");
                }
                self.memory.resized(done, settled, now);
                self.stale = true;
            }
            Outcome::Probed(kind, name, id, outcome) => self.probed(kind, &name, &id, outcome),
            Outcome::Published(status, done) => self.was_published(status, done, now),
            Outcome::Deleted(done) => {
                if let Err(error) = done {
                    tracing::warn!(pod = parts::name(&self.pod), %error, "cannot delete the pod");
                    self.memory.deleting = false;
                }
            }
        }
    }

    fn note(&self, done: &Result<(), cri::Error>) {
        if let Err(error) = done {
            tracing::warn!(pod = parts::name(&self.pod), %error, "the runtime refused");
        }
    }

    fn mounted(&mut self, done: Result<volumes::Mounted, VolumeError>, now: Timestamp) {
        match done {
            Ok(mounted) => {
                self.refresh_at = mounted.refresh_at;
                self.memory.volumes = Volumes::Mounted;
            }
            Err(error) => {
                let message = error.to_string();
                let event = Event::warning("FailedMount", message.clone());
                self.context.tell(&self.pod, event);
                let previous = match &self.memory.volumes {
                    Volumes::Failed(failure) => Some(failure.clone()),
                    _ => self.memory.volume_failure.take(),
                };
                let failure = Failure::again(previous.as_ref(), message, now);
                self.memory.volume_failure = Some(failure.clone());
                self.memory.volumes = Volumes::Failed(failure);
            }
        }
    }

    fn refreshed(&mut self, done: Result<volumes::Mounted, VolumeError>, now: Timestamp) {
        self.refreshing = false;
        match done {
            Ok(mounted) => self.refresh_at = mounted.refresh_at,
            Err(error) => {
                let event = Event::warning("FailedMount", error.to_string());
                self.context.tell(&self.pod, event);
                self.refresh_at = Some(parts::after(now, REFRESH_RETRY_SECONDS));
            }
        }
    }

    fn sandbox_made(&mut self, done: Result<(), String>, now: Timestamp) {
        self.memory.creating_sandbox = false;
        self.stale = true;
        let Err(message) = done else {
            self.memory.sandbox_failure = None;
            return;
        };
        let event = format!("Failed to create pod sandbox: {message}");
        let event = Event::warning("FailedCreatePodSandBox", event);
        self.context.tell(&self.pod, event);
        let previous = self.memory.sandbox_failure.take();
        let failure = Failure::again(previous.as_ref(), message, now);
        self.memory.sandbox_failure = Some(failure);
    }

    fn probed(&mut self, kind: Kind, name: &str, id: &str, outcome: probes::Outcome) {
        let Some(spec) = parts::find_container(&self.pod, name) else {
            return;
        };
        if let Some(event) = outcome.event(kind) {
            self.context.tell(&self.pod, event.about(&self.pod, name));
        }
        let key = (id.to_owned(), kind);
        let (Some(state), Some(probe)) = (self.memory.probes.get_mut(&key), kind.of(&spec)) else {
            return;
        };
        state.running = false;
        if let Some(success) = outcome.success() {
            state.observe(kind, probe, success);
        }
    }

    fn was_published(
        &mut self,
        status: Box<PodStatus>,
        done: Result<(), status::Error>,
        now: Timestamp,
    ) {
        self.publishing = false;
        match done {
            Ok(()) => {
                self.publish_failures = 0;
                self.published = *status;
            }
            // The watch will tell; there is nobody to publish to.
            Err(error) if error.is_gone() => self.published = *status,
            Err(error) => {
                self.publish_failures += 1;
                let seconds = pod_lifecycle::backoff::retry_seconds(self.publish_failures);
                self.publish_after = Some(parts::after(now, seconds));
                let error = cri::chain(&error);
                tracing::warn!(pod = parts::name(&self.pod), error, "status not published");
            }
        }
    }
}
