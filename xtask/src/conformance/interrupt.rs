//! Ctrl-C, and being told to end: what runs is asked to come to its end, and whatever was started goes in the usual way.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Keeps signals from ending this process at once.
#[derive(Clone)]
pub(super) struct Interrupts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    told: bool,
    running: Option<Pid>,
}

impl Interrupts {
    /// From here on signals are listened to.
    pub(super) fn watch() -> anyhow::Result<Self> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to signals")?;
        let interrupts = Self(Arc::default());
        let watching = interrupts.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                watching.told();
            }
        });
        Ok(interrupts)
    }

    /// Whether somebody wants this to end.
    pub(super) fn came(&self) -> bool {
        self.state(|state| state.told)
    }

    /// Runs a command to its end, which an interruption brings about. It is no member of the terminal's group: it hears of
    /// Ctrl-C from here, and only if it may be interrupted.
    pub(super) fn run(&self, command: &mut Command) -> anyhow::Result<ExitStatus> {
        if self.came() {
            bail!("interrupted");
        }
        let name = command.get_program().to_string_lossy().into_owned();
        let started = command.process_group(0).spawn();
        let mut child = started.with_context(|| format!("cannot run {name}"))?;
        let pid = Pid::from_raw(child.id().try_into().context("no number of a process")?);
        self.state(|state| {
            state.running = Some(pid);
            if state.told {
                interrupt(pid);
            }
        });
        // Until `wait` below its number is not given to another process.
        let ended = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        self.state(|state| state.running = None);
        ended.with_context(|| format!("cannot wait for {name}"))?;
        child
            .wait()
            .with_context(|| format!("cannot wait for {name}"))
    }

    fn told(&self) {
        self.state(|state| {
            state.told = true;
            if let Some(running) = state.running {
                interrupt(running);
            }
        });
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// As the terminal does it, which tells all processes of a group. Who has ended already need not be told.
fn interrupt(group: Pid) {
    let _ = killpg(group, Signal::SIGINT);
}
