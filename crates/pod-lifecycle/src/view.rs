//! What a decision may see: one pod as it should be and as it is.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::memory::Memory;
use crate::resize::Limits;

/// Everything [`crate::next`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// Now.
    pub now: Timestamp,
    /// The node it runs on.
    pub node: &'a NodeFacts,
    /// The sandboxes of the pod, newest first.
    pub sandboxes: &'a [Sandbox],
    /// The containers of the pod, dead ones too, newest first.
    pub containers: &'a [Container],
    /// What this kubelet did and learned so far.
    pub memory: &'a Memory,
    /// The status decided last time, or the API's when this kubelet has just started.
    pub last_status: &'a PodStatus,
    /// The API has no such pod any more.
    pub removed: bool,
}

/// What the status of a pod says about its node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Addresses of the node, the first one is the primary.
    pub ips: Vec<String>,
    /// The name before `://` in container ids.
    pub runtime_name: String,
}

/// A pod sandbox as the runtime reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The id of the runtime.
    pub id: String,
    /// The how-many-th sandbox of this pod, from 0.
    pub attempt: u32,
    /// Its namespaces and network work.
    pub ready: bool,
    /// It uses the network of the node.
    pub host_network: bool,
    /// Its addresses, empty for the network of the node.
    pub ips: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container as the runtime reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The id of the runtime.
    pub id: String,
    /// The name in the pod.
    pub name: String,
    /// The sandbox it belongs to.
    pub sandbox_id: String,
    /// How often the container had been restarted when this one was made.
    pub restart_count: u32,
    /// What it does.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it ended with.
    pub exit_code: i32,
    /// Why it ended, in one word.
    pub reason: String,
    /// Why it ended: the termination message.
    pub message: String,
    /// The image as asked for.
    pub image: String,
    /// The image as it is on this node.
    pub image_ref: String,
    /// Of [`crate::pod::container_hash`] when it was made.
    pub hash: Option<String>,
    /// The user its first process began with.
    pub user: Option<User>,
    /// Its limits; `None`: the runtime does not tell.
    pub limits: Option<Limits>,
}

/// User and groups of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: i64,
    /// Further groups.
    pub groups: Vec<i64>,
}

impl PodView<'_> {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest container of that name, except one that is being started this very moment: until its post-start hook is
    /// through, nobody may see it.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        let mut all = self.containers.iter().filter(|c| c.name == name);
        all.find(|c| !self.is_starting(c))
    }

    /// The newest container of that name in the newest sandbox.
    pub fn active(&self, name: &str) -> Option<&Container> {
        let sandbox = self.sandbox()?;
        let mut all = self.containers.iter().filter(|c| c.name == name);
        all.find(|c| c.sandbox_id == sandbox.id && !self.is_starting(c))
    }

    fn is_starting(&self, container: &Container) -> bool {
        let Some(starting) = &self.memory.starting else {
            return false;
        };
        starting.name == container.name
            && starting.attempt == container.restart_count
            && container.state != State::Exited
    }
}
