//! Signals taken as readable descriptors by a single-threaded loop.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::{Context, Result};

/// Signals that arrive as messages instead of interrupting.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the given signals for the calling thread and takes them as messages.
    pub fn take(signals: &[Signal]) -> Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().context(|| "block signals")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Signals)
            .context(|| "take signals as messages")
    }

    /// The next signal that has arrived, if any.
    pub fn next(&self) -> Result<Option<i32>> {
        let message = self.0.read_signal().context(|| "read a signal")?;
        Ok(message.map(|message| message.ssi_signo as i32))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks nothing and gives every signal its default action, as a new program expects it.
pub fn reset_all() -> Result<()> {
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default action runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }
            .context(|| format!("reset {signal}"))?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .context(|| "unblock signals")
}

/// Ignores a signal.
pub fn ignore(signal: Signal) -> Result<()> {
    // SAFETY: ignoring runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }
        .map(drop)
        .context(|| format!("ignore {signal}"))
}
