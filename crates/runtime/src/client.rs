//! The runtime's end of the connection to a shim.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::shim::protocol::{Answer, Call, Event, Failure, Message, Request, SOCKET};

/// A shim that takes calls.
#[derive(Debug)]
pub(crate) struct Shim {
    socket: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Who waits for which answer; gone when the connection is.
    waiting: Option<HashMap<u64, oneshot::Sender<Reply>>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
}

/// An answer with what came along.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) result: Result<Answer, Failure>,
    pub(crate) descriptor: Option<OwnedFd>,
    /// For an exec: its exit code, once it has ended.
    pub(crate) exit: Option<oneshot::Receiver<i32>>,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The shim said no.
    #[error("{0}")]
    Failed(String),
    /// The container is unknown to the shim.
    #[error("container not found")]
    NotFound,
    /// The container does not run.
    #[error("container is not running")]
    NotRunning,
    /// The shim is gone.
    #[error("the pod's shim is gone")]
    Gone,
}

impl From<CallError> for cri::Error {
    fn from(error: CallError) -> cri::Error {
        let code = match error {
            CallError::NotFound => cri::Code::NotFound,
            CallError::NotRunning => cri::Code::FailedPrecondition,
            CallError::Failed(_) => cri::Code::Unknown,
            CallError::Gone => cri::Code::Unavailable,
        };
        cri::Error::new(code, error.to_string())
    }
}

impl Shim {
    /// Connects to the shim of a sandbox. What happens in it arrives at the receiver, which ends
    /// when the shim does.
    pub(crate) fn connect(
        sandbox: &Path,
    ) -> std::io::Result<(Arc<Shim>, mpsc::UnboundedReceiver<Event>)> {
        let socket = linux::socket::connect(&sandbox.join(SOCKET)).map_err(|error| error.source)?;
        let state = State {
            waiting: Some(HashMap::new()),
            ..State::default()
        };
        let shim = Arc::new(Shim {
            socket: watch(socket)?,
            state: Mutex::new(state),
        });
        let (events, happened) = mpsc::unbounded_channel();
        tokio::spawn(read(Arc::clone(&shim), events));
        Ok((shim, happened))
    }

    /// Makes a call and waits for its answer.
    pub(crate) async fn call(
        &self,
        call: Call,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Reply, CallError> {
        let (tell, answered) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = state.next;
            state
                .waiting
                .as_mut()
                .ok_or(CallError::Gone)?
                .insert(id, tell);
            id
        };
        let request = serde_json::to_vec(&Request { id, call });
        let request = request.map_err(|error| CallError::Failed(error.to_string()))?;
        if request.len() > linux::socket::MAX_MESSAGE_BYTES {
            return Err(CallError::Failed("argument list too long".into()));
        }
        self.send(&request, descriptors).await?;
        let reply = answered.await.map_err(|_| CallError::Gone)?;
        match reply.result {
            Err(Failure::NotFound) => Err(CallError::NotFound),
            Err(Failure::NotRunning) => Err(CallError::NotRunning),
            Err(Failure::Failed(message)) => Err(CallError::Failed(message)),
            Ok(_) => Ok(reply),
        }
    }

    async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), CallError> {
        loop {
            let mut ready = self.socket.writable().await.map_err(|_| CallError::Gone)?;
            let sent = ready.try_io(|socket| {
                linux::socket::send(socket.as_fd(), bytes, descriptors)
                    .map_err(|error| error.source)
            });
            match sent {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(CallError::Gone),
                Err(_would_block) => {}
            }
        }
    }
}

/// Has tokio watch a descriptor that we own.
#[expect(
    deprecated,
    reason = "the doubt is about types that lend descriptors they do not own; `OwnedFd` owns its"
)]
pub(crate) fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// Hands out answers and events in the order in which the shim sent them.
async fn read(shim: Arc<Shim>, events: mpsc::UnboundedSender<Event>) {
    while let Some(message) = receive(&shim.socket).await {
        let Ok(parsed) = serde_json::from_slice::<Message>(&message.bytes) else {
            break;
        };
        match parsed {
            Message::Answer { id, result } => {
                let mut state = shim.state.lock();
                let exit = match &result {
                    Ok(Answer::Executing { exec }) => {
                        let (tell, exited) = oneshot::channel();
                        state.execs.insert(*exec, tell);
                        Some(exited)
                    }
                    _ => None,
                };
                let waiting = state
                    .waiting
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&id));
                if let Some(waiting) = waiting {
                    let descriptor = message.descriptors.into_iter().next();
                    let _ = waiting.send(Reply {
                        result,
                        descriptor,
                        exit,
                    });
                }
            }
            Message::Event(Event::ExecExited { exec, code }) => {
                if let Some(waiting) = shim.state.lock().execs.remove(&exec) {
                    let _ = waiting.send(code);
                }
            }
            Message::Event(event) => drop(events.send(event)),
        }
    }
    let mut state = shim.state.lock();
    state.waiting = None;
    state.execs.clear();
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> Option<linux::socket::Message> {
    loop {
        let mut ready = socket.readable().await.ok()?;
        let received = ready
            .try_io(|socket| linux::socket::receive(socket.as_fd()).map_err(|error| error.source));
        match received {
            Ok(received) => return received.ok().flatten(),
            Err(_would_block) => {}
        }
    }
}
