//! Processes: forked by a single-threaded parent, followed by descriptor and never by a number that
//! may mean somebody else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::namespace::{Kind, require_single_thread};
use crate::{Context, Error, Result};

/// A process, known by a descriptor: signals reach it or nobody.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// A process by its number. Whoever calls must know that the number still means that process:
    /// it is an unreaped child, or it is checked again afterwards.
    pub fn open(pid: Pid) -> Result<Process> {
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .context(|| format!("open process {}", pid.as_raw_nonzero()))?;
        Ok(Process { pid, fd })
    }

    /// Its number, for people and for files under `/proc`.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; success when the process is gone already.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: a pidfd that we own, a number, and a null pointer where the kernel allows one.
        let sent = unsafe {
            let no_info = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                no_info,
                0,
            )
        };
        if sent == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(Error::new(
            format!(
                "send signal {signal} to process {}",
                self.pid.as_raw_nonzero()
            ),
            error,
        ))
    }

    /// Kills it; success when it is gone already.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL.as_raw())
    }

    /// Waits until the process has exited (it need not be a child, nobody is reaped); false after
    /// `timeout`.
    pub fn wait_exit(&self, timeout: Option<std::time::Duration>) -> Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::new("wait for a process", error)),
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Which side of a fork we are on.
#[derive(Debug)]
pub enum Fork {
    /// The one that called, with the new process.
    Parent(Process),
    /// The new process.
    Child,
}

/// Forks a child into new namespaces of the given kinds and, on cgroup v2, straight into a cgroup
/// (an open directory).
///
/// Refused unless the process has a single thread, so the child may do anything a program may do.
pub fn fork(new: &[Kind], cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    require_single_thread()?;
    let mut pidfd: RawFd = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    for kind in new {
        flags |= kind.clone_flag();
    }
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let mut args = libc::clone_args {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, as after fork(2). No lock of
    // the C library can be held by another thread because there is none. `args` and `pidfd` outlive
    // the call and have the size given.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        0 => Ok(Fork::Child),
        -1 => Err(Error::new("fork", io::Error::last_os_error())),
        pid => {
            // SAFETY: on success the kernel stored a new descriptor that nobody else owns; pids are
            // positive.
            let (fd, pid) = unsafe {
                (
                    OwnedFd::from_raw_fd(pidfd),
                    Pid::from_raw_unchecked(pid as i32),
                )
            };
            Ok(Fork::Parent(Process { pid, fd }))
        }
    }
}

/// The constant of the same name in `libc` overflows its type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Leaves the process at once: no destructors, no buffers flushed. For the child of a fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always allowed; it does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces the program. Returns only when that failed.
pub fn exec(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let list = |strings: &[CString]| {
        let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: all strings are NUL-terminated and live through the call, both lists end with a null
    // pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which child.
    pub pid: Pid,
    /// Its exit code; 128 plus the signal when one killed it.
    pub code: i32,
}

/// Reaps one exited child, if there is one.
pub fn reap() -> Result<Option<Exit>> {
    use rustix::process::{WaitOptions, wait};
    loop {
        return match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let code = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => code,
                    (None, Some(signal)) => 128 + signal,
                    // Stops and continues are not asked for.
                    (None, None) => continue,
                };
                Ok(Some(Exit { pid, code }))
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(Error::new("reap a child", error)),
        };
    }
}

/// Makes orphaned descendants children of this process instead of init's.
pub fn become_subreaper() -> Result<()> {
    // SAFETY: plain numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::new("become subreaper", io::Error::last_os_error()))
    }
}

/// Has the kernel kill this process when its parent goes. Lost when credentials change.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context(|| "ask to die with the parent")
}

/// The name shown by `ps` for this process.
pub fn set_name(name: &str) -> Result<()> {
    let name = CString::new(name)
        .map_err(io::Error::from)
        .context(|| "set the process name")?;
    rustix::thread::set_name(&name).context(|| "set the process name")
}

/// Marks every descriptor from `first` on close-on-exec, those nobody remembers included.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: sets a flag on descriptors; none is closed here.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::new(
            "mark descriptors close-on-exec",
            io::Error::last_os_error(),
        ))
    }
}

/// Closes every descriptor but the standard three. For the very beginning of a program: what is
/// open then was left open by whoever started it, and nothing here owns it. Refused once there is a
/// second thread.
pub fn close_inherited() -> Result<()> {
    require_single_thread()?;
    close_from_three().context(|| "close inherited descriptors")
}

/// Waits for nothing, for ever, holding nothing open; exited children are reaped by the kernel. For
/// a process that only keeps a namespace alive.
pub fn pause_forever() -> ! {
    let _ = crate::signal::ignore(nix::sys::signal::Signal::SIGCHLD);
    // Whoever owned a descriptor in this process never runs again.
    let _ = close_from_three();
    loop {
        rustix::event::pause();
    }
}

fn close_from_three() -> io::Result<()> {
    // SAFETY: both callers see to it that no owner of a descriptor closed here is ever used again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `fd` the standard input (0), output (1) or error (2) of this process, kept over exec.
pub fn set_stdio(fd: impl AsFd, number: u32) -> Result<()> {
    let fd = fd.as_fd();
    match number {
        0 => rustix::stdio::dup2_stdin(fd),
        1 => rustix::stdio::dup2_stdout(fd),
        _ => rustix::stdio::dup2_stderr(fd),
    }
    .context(|| format!("set descriptor {number}"))
}

/// Keeps a descriptor open over the next exec, under the number it has.
pub fn keep_over_exec(fd: impl AsFd) -> Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
        .context(|| "keep a descriptor over exec")
}

/// Takes over a descriptor that was kept over exec by whoever started this process; it will not be
/// kept again.
///
/// To be called once for a number, before the process opens anything of its own that could have got
/// the number.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    if number <= 2 {
        let taken = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(Error::new(format!("take over descriptor {number}"), taken));
    }
    // SAFETY: asks for a flag of a number, which is allowed for any number.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        let error = io::Error::last_os_error();
        return Err(Error::new(format!("take over descriptor {number}"), error));
    }
    // SAFETY: the descriptor is open, as just seen, and by the contract of this function nobody in
    // this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets the kernel's out-of-memory badness of the calling process; as low as allowed when the value
/// itself is not, which is what a machine without CAP_SYS_RESOURCE says.
pub fn set_oom_score_adj(value: i32) -> Result<()> {
    match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set.context(|| format!("set oom_score_adj to {value}")),
    }
}
