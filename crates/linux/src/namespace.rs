//! Namespaces: made, entered, and kept alive by a file they are bound to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::{Context, Error, Result};

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Interfaces, routes, sockets.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Process IDs; takes effect for children.
    Pid,
    /// Mounts.
    Mount,
    /// The root of the cgroup tree.
    Cgroup,
}

impl Kind {
    /// The name of its file under `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Pid => "pid",
            Kind::Mount => "mnt",
            Kind::Cgroup => "cgroup",
        }
    }

    fn unshare_flag(self) -> UnshareFlags {
        match self {
            Kind::Network => UnshareFlags::NEWNET,
            Kind::Ipc => UnshareFlags::NEWIPC,
            Kind::Uts => UnshareFlags::NEWUTS,
            Kind::Pid => UnshareFlags::NEWPID,
            Kind::Mount => UnshareFlags::NEWNS,
            Kind::Cgroup => UnshareFlags::NEWCGROUP,
        }
    }

    pub(crate) fn clone_flag(self) -> u64 {
        u64::from(self.unshare_flag().bits())
    }

    fn link_type(self) -> LinkNameSpaceType {
        match self {
            Kind::Network => LinkNameSpaceType::Network,
            Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Kind::Pid => LinkNameSpaceType::ProcessID,
            Kind::Mount => LinkNameSpaceType::Mount,
            Kind::Cgroup => LinkNameSpaceType::ControlGroup,
        }
    }
}

/// A handle on one namespace; it lives at least as long.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    fd: OwnedFd,
}

impl Namespace {
    /// The namespace of a process.
    pub fn of(pid: Pid, kind: Kind) -> Result<Namespace> {
        let path = format!("/proc/{}/ns/{}", pid.as_raw_nonzero(), kind.file());
        Namespace::open(Path::new(&path), kind)
    }

    /// The namespace of the calling thread.
    pub fn current(kind: Kind) -> Result<Namespace> {
        Namespace::open(&Path::new("/proc/thread-self/ns").join(kind.file()), kind)
    }

    /// A namespace by a file that stands for it.
    pub fn open(path: &Path, kind: Kind) -> Result<Namespace> {
        let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open namespace {}", path.display()))?;
        Ok(Namespace { kind, fd })
    }

    /// A namespace by its descriptor; that it is of this kind is checked when it is entered.
    pub fn from_fd(fd: OwnedFd, kind: Kind) -> Namespace {
        Namespace { kind, fd }
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Moves the calling thread into it (for [`Kind::Pid`]: its future children).
    pub fn enter(&self) -> Result<()> {
        let kind = self.kind;
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(kind.link_type()))
            .context(|| format!("enter a {} namespace", kind.file()))
    }

    /// A path that stands for it as long as this handle (and this process) lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()).into()
    }

    /// Keeps it alive by a bind mount on a file, which is made if need be.
    /// [`crate::mount::unmount`] lets it go.
    pub fn pin(&self, file: &Path) -> Result<()> {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .context(|| format!("make {}", file.display()))?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        crate::mount::bind(Path::new(&source), file)
    }

    /// Another handle on the same namespace.
    pub fn try_clone(&self) -> Result<Namespace> {
        let fd = self.fd.try_clone().context(|| "copy a namespace handle")?;
        Ok(Namespace {
            kind: self.kind,
            fd,
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Moves the calling thread into new namespaces of these kinds (for [`Kind::Pid`]: its future
/// children). A multi-threaded process cannot do this for [`Kind::Mount`]: the kernel refuses.
pub fn unshare(kinds: &[Kind]) -> Result<()> {
    let mut flags = UnshareFlags::empty();
    for kind in kinds {
        flags |= kind.unshare_flag();
    }
    // SAFETY: none of these flags gives the thread a descriptor table of its own (that is `FILES`),
    // which is the one thing that would break the ownership of open descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .context(|| format!("make new namespaces {kinds:?}"))
}

/// Runs `work` on a thread of its own inside `namespace`, and waits for it. The rest of the process
/// stays where it is.
pub fn run_in<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(format!("{}-namespace", namespace.kind.file()))
            .spawn_scoped(scope, || namespace.enter().map(|()| work()))
            .context(|| "start a thread")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sets the host name of the calling thread's UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).context(|| format!("set host name {name}"))
}

/// Fails unless the calling process has exactly one thread, as everything that forks needs it.
///
/// A thread that was joined has told so before the kernel took it off the list: it is given the time to go.
pub fn require_single_thread() -> Result<()> {
    let mut threads = 0;
    for _ in 0..JOINED_THREADS_GO {
        threads = std::fs::read_dir("/proc/self/task")
            .context(|| "count threads")?
            .count();
        if threads == 1 {
            return Ok(());
        }
        std::thread::yield_now();
    }
    let many = io::Error::other(format!("the process has {threads} threads"));
    Err(Error::new("work as a single-threaded process", many))
}

/// So often the list is looked at before its threads are taken to stay.
const JOINED_THREADS_GO: usize = 1000;
