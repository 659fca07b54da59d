//! What happens to containers, told to whoever listens: this is how the kubelet learns of exits.

use cri::v1::{ContainerEventResponse, ContainerEventType};
use cri::{Code, ContainerEvents, Error};
use futures::StreamExt;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::Runtime;

/// How many events a listener may lag behind before it has to list anew.
const BACKLOG: usize = 4096;

/// The listeners.
pub(crate) struct Events(broadcast::Sender<ContainerEventResponse>);

impl Events {
    pub(crate) fn new() -> Events {
        Events(broadcast::channel(BACKLOG).0)
    }

    /// Everything from now on. A listener that is too slow gets an error instead of what it missed.
    pub(crate) fn subscribe(&self) -> ContainerEvents {
        let listener = self.0.subscribe();
        futures::stream::unfold(listener, |mut listener| async {
            let event = match listener.recv().await {
                Ok(event) => Ok(event),
                Err(RecvError::Lagged(missed)) => {
                    let message = format!("{missed} events were lost: list the containers anew");
                    Err(Error::new(Code::ResourceExhausted, message))
                }
                Err(RecvError::Closed) => return None,
            };
            Some((event, listener))
        })
        .boxed()
    }
}

impl Runtime {
    /// Tells the listeners that something happened to a container (or to the sandbox itself, by its
    /// own ID).
    pub(crate) fn tell(&self, kind: ContainerEventType, sandbox: &str, id: &str) {
        if self.events.0.receiver_count() == 0 {
            return;
        }
        let status = self.sandbox(sandbox).ok().map(|sandbox| sandbox.status());
        let containers = self.containers_of(sandbox);
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status: status,
            containers_statuses: containers
                .iter()
                .map(crate::world::Container::status)
                .collect(),
        };
        let _ = self.events.0.send(event);
    }
}

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
