//! What the runtime and a shim say to each other: JSON messages on a unix socket that keeps
//! boundaries, descriptors beside them.
//!
//! A shim outlives the runtime that started it, so a newer runtime must understand an older shim:
//! fields are only ever added, with defaults, and [`VERSION`] grows when a call changes its
//! meaning. Large things (plans) go through files.

use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The socket in a sandbox's directory.
pub const SOCKET: &str = "shim.sock";

/// The sandbox's plan in its directory.
pub const SANDBOX_PLAN: &str = "sandbox-plan.json";

/// The plan in a container's directory.
pub const CONTAINER_PLAN: &str = "plan.json";

/// What the shim notes in a container's directory when it has started.
pub const STARTED: &str = "started.json";

/// What the shim notes in a container's directory when it has exited.
pub const EXITED: &str = "exited.json";

/// What a shim must know about its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPlan {
    /// The sandbox's ID.
    pub id: String,
    /// Its host name; empty when it has the host's.
    pub hostname: String,
    /// Whether it has a network namespace of its own.
    pub own_network: bool,
    /// Whether it has an IPC namespace (and `/dev/shm`) of its own.
    pub own_ipc: bool,
    /// Whether its containers share a PID namespace.
    pub shared_pids: bool,
    /// Files under `/proc/sys` to write.
    pub sysctls: Vec<(std::path::PathBuf, String)>,
    /// The cgroup that the shim itself lives in.
    pub cgroup: String,
    /// Where to mount `/dev/shm` of the pod, and how large.
    pub shm: Option<(std::path::PathBuf, u64)>,
}

/// A call with the number that its answer carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller.
    pub id: u64,
    /// What to do.
    pub call: Call,
}

/// What a shim can be asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Who are you? Answered by [`Answer::Hello`].
    Hello,
    /// Start a container whose plan lies in its directory. Answered by [`Answer::Started`].
    Start {
        /// Its ID.
        container: String,
        /// Its directory.
        dir: std::path::PathBuf,
    },
    /// Run a command in a container. Without a terminal three descriptors come along; with one, its
    /// master goes back. Answered by [`Answer::Executing`], later followed by
    /// [`Event::ExecExited`].
    Exec {
        /// In which container.
        container: String,
        /// Program and arguments.
        arguments: Vec<String>,
        /// Whether it gets a terminal.
        terminal: bool,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// Which container.
        container: String,
        /// The signal's number.
        signal: i32,
    },
    /// Kill everything in a container.
    Kill {
        /// Which container.
        container: String,
    },
    /// Kill an exec.
    KillExec {
        /// As [`Answer::Executing`] said.
        exec: u64,
    },
    /// Copy output to, and input from, the descriptors that come along, in the order stdin, stdout,
    /// stderr.
    Attach {
        /// Which container.
        container: String,
        /// Which of the three come along.
        streams: [bool; 3],
    },
    /// Set the size of a container's terminal.
    Resize {
        /// Which container.
        container: String,
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// Open a container's log anew.
    ReopenLog {
        /// Which container.
        container: String,
    },
    /// Connect to a port on the pod's loopback. The socket, still connecting, goes back with
    /// [`Answer::Done`].
    Connect {
        /// The port.
        port: u16,
    },
    /// Forget an exited container.
    Forget {
        /// Which container.
        container: String,
    },
    /// Kill what is left and exit. The answer comes before the exit.
    Shutdown,
}

/// A message from the shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The answer to a call.
    Answer {
        /// The call's number.
        id: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Who the shim is.
    Hello {
        /// The protocol it speaks.
        version: u32,
        /// Its process ID.
        pid: i32,
        /// Its containers, with the exit of those that have exited.
        containers: Vec<(String, Option<Exited>)>,
    },
    /// The container's program runs.
    Started(Started),
    /// The command runs.
    Executing {
        /// The number that events and [`Call::KillExec`] name it by.
        exec: u64,
    },
    /// It is done.
    Done,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No such container.
    NotFound,
    /// The container does not run.
    NotRunning,
    /// Anything else, for people.
    Failed(String),
}

/// When and as whom a container started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process ID of its first process.
    pub pid: i32,
    /// In nanoseconds since 1970.
    pub at: i64,
    /// Its user.
    pub user: oci::user::User,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Its exit code; 128 plus the signal that killed it.
    pub code: i32,
    /// In nanoseconds since 1970.
    pub at: i64,
    /// Whether the kernel killed in it for want of memory.
    pub out_of_memory: bool,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A container ended.
    Exited {
        /// Which.
        container: String,
        /// How.
        exited: Exited,
    },
    /// A command in a container ended.
    ExecExited {
        /// Which.
        exec: u64,
        /// Its exit code.
        code: i32,
    },
}
