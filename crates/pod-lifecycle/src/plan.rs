//! What a decision answers.

use cri::v1::LinuxContainerResources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

use crate::backoff::Backoff;
use crate::probe::Kind;

/// The answer of [`crate::next`].
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What to do now. None waits for another: the order is only that of reading.
    pub actions: Vec<Action>,
    /// The status to publish.
    pub status: PodStatus,
    /// When to look again if nothing happens before.
    pub wait_until: Option<Timestamp>,
    /// What was done or is waited for.
    pub because: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the pod's directories and volumes.
    MountVolumes,
    /// Take the pod's volumes away; emptyDirs go with them.
    UnmountVolumes,
    /// Make a sandbox.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Take the network of a sandbox away.
    StopSandbox {
        /// Which.
        id: String,
    },
    /// Remove a sandbox and what is left in it.
    RemoveSandbox {
        /// Which.
        id: String,
    },
    /// Pull the image, make the container, start it, run its post-start hook.
    StartContainer(Start),
    /// Begin to stop a container: say so, and run its pre-stop hook if it has one.
    Kill(Kill),
    /// Stop a container: stop signal, and after the timeout SIGKILL.
    StopContainer {
        /// Which.
        id: String,
        /// Its name in the pod.
        name: String,
        /// Seconds before SIGKILL.
        timeout_seconds: i64,
    },
    /// Lift the limits of the pod as a whole, and give running containers other resources.
    Resize {
        /// Which, and what.
        containers: Vec<(String, LinuxContainerResources)>,
        /// Then set the limits of the pod.
        settle: bool,
    },
    /// Remove a dead container and its log.
    RemoveContainer {
        /// Which.
        id: String,
    },
    /// Probe a container once.
    Probe {
        /// Which probe.
        kind: Kind,
        /// The container's name in the pod.
        name: String,
        /// The container.
        id: String,
    },
    /// Tell the user.
    Event(Event),
    /// Tell the user that a container waits, and remember that it was told.
    TellBackoff {
        /// The container's name in the pod.
        name: String,
        /// The end of the wait.
        until: Timestamp,
        /// It waits for its image, not for its next restart.
        image: bool,
        /// What to tell.
        events: Vec<Event>,
    },
    /// The pod has ended: publish the status of this plan and say when that is done.
    PublishFinal,
    /// Object, containers and volumes are gone: nothing will ever have to be decided again.
    Finished,
    /// Delete the object: its containers are gone.
    DeletePod,
}

/// See [`Action::StartContainer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The container's name in the pod.
    pub name: String,
    /// The sandbox to make it in.
    pub sandbox_id: String,
    /// Its restart count.
    pub attempt: u32,
    /// The restart back-off that holds from now on.
    pub backoff: Option<Backoff>,
}

/// See [`Action::Kill`].
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// Which.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// For the event.
    pub message: String,
    /// Seconds for hook and stop signal together.
    pub grace_seconds: i64,
    /// It has a pre-stop hook to be run.
    pub pre_stop: bool,
    /// It is to run again even if its restart policy says no.
    pub restart: bool,
}

/// An event about the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The `fieldPath` of the container it is about, if it is about one.
    pub field_path: Option<String>,
}

impl Event {
    /// An event of type `Normal` about the pod.
    pub fn normal(reason: &str, message: impl Into<String>) -> Event {
        Event {
            warning: false,
            reason: reason.to_owned(),
            message: message.into(),
            field_path: None,
        }
    }

    /// An event of type `Warning` about the pod.
    pub fn warning(reason: &str, message: impl Into<String>) -> Event {
        Event {
            warning: true,
            ..Event::normal(reason, message)
        }
    }

    /// The same about one container of the pod.
    pub fn about(mut self, pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> Event {
        self.field_path = field_path(pod, container);
        self
    }
}

/// The path of a container in its pod, the way events name it.
pub fn field_path(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> Option<String> {
    let spec = crate::pod::spec(pod);
    let init = crate::pod::init_containers(pod);
    let ephemeral = crate::pod::ephemeral_containers(pod);
    let list = if spec.containers.iter().any(|c| c.name == container) {
        "containers"
    } else if init.iter().any(|c| c.name == container) {
        "initContainers"
    } else if ephemeral.iter().any(|c| c.name == container) {
        "ephemeralContainers"
    } else {
        return None;
    };
    Some(format!("spec.{list}{{{container}}}"))
}
