//! Which functions of a program run: every one has a breakpoint until it is called for the first time.
//!
//! All processes of the program are followed, those included that it starts through others. Processor: x86-64.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::map::Function;

/// The instruction that stops.
const BREAKPOINT: u8 = 0xCC;
/// Waits to be followed, then becomes the program.
const WAIT: &str = "kill -STOP $$; exec \"$@\"";

/// A program and what has run of it.
pub(super) struct Trace<'a> {
    program: &'a Path,
    functions: &'a [Function],
    /// The byte under each breakpoint.
    under: HashMap<u64, u8>,
    /// Where the program is loaded in each process or thread.
    loaded: HashMap<Pid, u64>,
    /// Addresses of what has run.
    pub(super) ran: HashSet<u64>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(program: &'a Path, functions: &'a [Function]) -> Self {
        Self {
            program,
            functions,
            under: HashMap::new(),
            loaded: HashMap::new(),
            ran: HashSet::new(),
        }
    }

    /// Runs a command that starts the program; comes back when all processes have ended.
    pub(super) fn run(&mut self, command: &[String]) -> anyhow::Result<()> {
        let child = Command::new("/bin/sh")
            .args(["-c", WAIT, "sh"])
            .args(command)
            .stdin(Stdio::null())
            .spawn()?;
        let first = Pid::from_raw(child.id() as i32);
        waitpid(first, Some(WaitPidFlag::WUNTRACED))?;
        let options = Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, options).context("cannot follow the program")?;
        kill(first, Signal::SIGCONT)?;
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => self.next(status)?,
                Err(Errno::ECHILD) => return Ok(()),
                Err(error) => bail!("cannot wait for the program: {error}"),
            }
        }
    }

    fn next(&mut self, status: WaitStatus) -> anyhow::Result<()> {
        let (pid, signal) = match status {
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == Event::PTRACE_EVENT_EXEC as i32 {
                    self.loaded.remove(&pid);
                    self.arm(pid)?;
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, Signal::SIGTRAP) if self.passed(pid)? => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.loaded.remove(&pid);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match ptrace::cont(pid, signal) {
            // It was killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => bail!("cannot let process {pid} go on: {error}"),
        }
    }

    /// Puts the breakpoints into a process that has just become the program.
    fn arm(&mut self, pid: Pid) -> anyhow::Result<()> {
        let executable = fs::metadata(format!("/proc/{pid}/exe"))?;
        if executable.ino() != fs::metadata(self.program)?.ino() {
            return Ok(());
        }
        let base = self.base(pid)?;
        let (Some(first), Some(last)) = (self.functions.first(), self.functions.last()) else {
            return Ok(());
        };
        let mut code = vec![0; (last.address + last.size - first.address) as usize];
        let memory = memory(pid)?;
        memory.read_exact_at(&mut code, base + first.address)?;
        for function in self.functions {
            let at = (function.address - first.address) as usize;
            self.under.insert(function.address, code[at]);
            code[at] = BREAKPOINT;
        }
        memory.write_all_at(&code, base + first.address)?;
        Ok(())
    }

    /// Where the program is loaded.
    fn base(&mut self, pid: Pid) -> anyhow::Result<u64> {
        if let Some(base) = self.loaded.get(&pid) {
            return Ok(*base);
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        // Its name differs where a node sees another root.
        let inode = fs::metadata(self.program)?.ino().to_string();
        let line = maps
            .lines()
            .find(|line| line.split_whitespace().nth(4) == Some(&inode));
        let start = line.and_then(|line| line.split('-').next());
        let base = u64::from_str_radix(start.context("the program is not loaded")?, 16)?;
        self.loaded.insert(pid, base);
        Ok(base)
    }

    /// Whether it stopped at a breakpoint of ours: it is taken away, and the function may begin.
    fn passed(&mut self, pid: Pid) -> anyhow::Result<bool> {
        let Ok(mut registers) = ptrace::getregs(pid) else {
            return Ok(false);
        };
        let Ok(base) = self.base(pid) else {
            return Ok(false);
        };
        let at = (registers.rip - 1).wrapping_sub(base);
        let Some(byte) = self.under.get(&at) else {
            return Ok(false);
        };
        memory(pid)?.write_all_at(&[*byte], base + at)?;
        self.ran.insert(at);
        registers.rip -= 1;
        ptrace::setregs(pid, registers)?;
        Ok(true)
    }
}

fn memory(pid: Pid) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
}
