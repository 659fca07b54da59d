//! Process 1 of a node: reaps, holds the namespaces, and restarts the server when it dies. It never restarts itself.
//!
//! One thread, no allocation to speak of, no opinion about Kubernetes.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use linux::process::{self, Fork, Process};
use linux::signal::{self, Signals};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::cli::Descriptors;
use crate::root;

/// Shortest and longest pause before the server is started again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A server that lived for so long is started again at once.
const HEALTHY: Duration = Duration::from_secs(30);
/// How long the server may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

struct Init {
    /// Only of the first node.
    listener: Option<OwnedFd>,
    host_network: OwnedFd,
    /// Only for the first server.
    progress: Option<OwnedFd>,
    server: Option<Server>,
    pause: Duration,
    /// When the next server is to be started; `None` while one runs.
    start_at: Option<Instant>,
}

struct Server {
    pid: Pid,
    since: Instant,
}

/// Runs until the node is switched off.
pub(crate) fn run(descriptors: Descriptors) -> anyhow::Result<ExitCode> {
    if std::process::id() != 1 {
        anyhow::bail!(
            "`oxikube init` is process 1 of a node; clusters are made by `oxikube start`"
        );
    }
    let mut init = Init {
        listener: descriptors.listener.map(process::inherited).transpose()?,
        host_network: process::inherited(descriptors.host_network)?,
        progress: descriptors.progress.map(process::inherited).transpose()?,
        server: None,
        pause: PAUSE.0,
        start_at: Some(Instant::now()),
    };
    // The kernel must not choose the one process that holds all others.
    let _ = process::set_oom_score_adj(-1000);
    let signals = Signals::take(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT])?;
    loop {
        if init.start_at.is_some_and(|at| at <= Instant::now()) {
            init.start_server()?;
        }
        wait(&signals, init.start_at)?;
        while let Some(signal) = signals.next()? {
            if signal == Signal::SIGTERM as i32 || signal == Signal::SIGINT as i32 {
                init.end_server();
                return Ok(ExitCode::SUCCESS);
            }
        }
        while let Some(exit) = process::reap()? {
            init.reaped(exit);
        }
    }
}

/// Sleeps until a signal arrives or the next server is due.
fn wait(signals: &Signals, until: Option<Instant>) -> anyhow::Result<()> {
    let left = until.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match poll(&mut [PollFd::new(signals, PollFlags::IN)], left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for signals"),
    }
}

impl Init {
    fn start_server(&mut self) -> anyhow::Result<()> {
        self.start_at = None;
        let progress = self.progress.take();
        match process::fork(&[], None)? {
            Fork::Parent(server) => {
                self.server = Some(Server {
                    pid: server.pid(),
                    since: Instant::now(),
                });
                Ok(())
            }
            Fork::Child => {
                let error = self.become_server(progress.as_ref());
                eprintln!("cannot start the server: {error:#}");
                process::exit_now(1)
            }
        }
    }

    /// Returns only when it failed.
    fn become_server(&self, progress: Option<&OwnedFd>) -> anyhow::Error {
        let prepared = (|| {
            signal::reset_all()?;
            let _ = process::set_oom_score_adj(-999);
            let group = linux::cgroup::detect()?.group("oxikube");
            group.create()?;
            group.add_self()
        })();
        if let Err(error) = prepared {
            return error.into();
        }
        let progress = progress.map(AsFd::as_fd);
        exec(
            "node-server",
            self.listener.as_ref().map(AsFd::as_fd),
            self.host_network.as_fd(),
            progress,
        )
    }

    fn reaped(&mut self, exit: process::Exit) {
        let Some(server) = self.server.take_if(|server| server.pid == exit.pid) else {
            return;
        };
        let lived = server.since.elapsed();
        if lived >= HEALTHY {
            self.pause = PAUSE.0;
        }
        eprintln!(
            "the server ended with code {} after {lived:.1?}; starting it again in {:.1?}",
            exit.code, self.pause
        );
        self.start_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// Lets the server end by itself; whatever else runs is killed by the kernel when this process ends.
    fn end_server(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        if let Ok(server) = Process::open(server.pid) {
            let _ = server.signal(Signal::SIGTERM as i32);
            let _ = server.wait_exit(Some(GRACE));
        }
    }
}

/// Replaces this process by another role of this program, with the descriptors handed on. Returns only when it failed.
pub(crate) fn exec(
    role: &str,
    listener: Option<BorrowedFd<'_>>,
    host_network: BorrowedFd<'_>,
    progress: Option<BorrowedFd<'_>>,
) -> anyhow::Error {
    use std::os::fd::AsRawFd;
    let mut arguments = vec!["oxikube".to_owned(), role.to_owned()];
    let given = [
        ("--listener", listener),
        ("--host-network", Some(host_network)),
        ("--progress", progress),
    ];
    for (flag, fd) in given {
        let Some(fd) = fd else { continue };
        if let Err(error) = process::keep_over_exec(fd) {
            return error.into();
        }
        arguments.push(format!("{flag}={}", fd.as_raw_fd()));
    }
    let text = |text: String| CString::new(text).map_err(anyhow::Error::from);
    let arguments: anyhow::Result<Vec<CString>> = arguments.into_iter().map(text).collect();
    let mut environment =
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    for name in ["OXIKUBE_LOG", "RUST_BACKTRACE"] {
        environment.extend(
            std::env::var(name)
                .ok()
                .map(|value| format!("{name}={value}")),
        );
    }
    let environment: anyhow::Result<Vec<CString>> = environment.into_iter().map(text).collect();
    match (text(root::PROGRAM.to_owned()), arguments, environment) {
        (Ok(program), Ok(arguments), Ok(environment)) => {
            let error = process::exec(&program, &arguments, &environment);
            anyhow::Error::new(error).context(format!("cannot run {}", root::PROGRAM))
        }
        (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => error,
    }
}
