//! `oxikube node shell`: a program in a node, as if one had logged in there.
//!
//! It joins all of the node's namespaces and its control group, and so ends with the node. When it is run from a
//! terminal it gets a new one of the node's own; what is typed and shown is carried to and fro.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use linux::namespace::{Kind, Namespace};
use linux::process::{self, Fork, Process};
use linux::signal::{self, Signals};
use linux::terminal::{self, Terminal};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::cluster::Cluster;
use crate::{checks, root};

/// The mount namespace comes last: with it the machine's files are out of sight.
const JOINED: [Kind; 5] = [
    Kind::Cgroup,
    Kind::Uts,
    Kind::Ipc,
    Kind::Network,
    Kind::Mount,
];
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command, or a shell when there is none, and returns its exit code.
pub(crate) fn run(
    cluster: &Cluster,
    name: Option<&str>,
    command: &[OsString],
) -> anyhow::Result<ExitCode> {
    checks::root()?;
    crate::commands::must_exist(cluster)?;
    let config = cluster.config()?;
    let node = match name {
        Some(name) => cluster.member_named(&config, name)?,
        None => cluster.first(&config),
    };
    let Some(init) = node.init() else {
        let name = node.config.name();
        bail!("node {name} is off: switch it on with `oxikube node start {name}`");
    };
    let of = |kind| Namespace::of(init.pid(), kind);
    let namespaces: Vec<Namespace> = JOINED.into_iter().map(of).collect::<Result<_, _>>()?;
    // Where the node's server is: on version 2 no process may be in a group that has groups below it.
    let group = root::cgroup(&node.config)?.child("oxikube");
    let terminal = match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        true => Some(new_terminal(&init)?),
        false => None,
    };
    let signals = terminal
        .as_ref()
        .map(|_| Signals::take(&[Signal::SIGWINCH]))
        .transpose()?;
    of(Kind::Pid)?.enter()?;
    match process::fork(&[], None)? {
        Fork::Parent(child) => {
            if let (Some(terminal), Some(signals)) = (terminal, signals) {
                drop(terminal.slave);
                carry(&terminal.master, &signals)?;
            }
            child.wait_exit(None)?;
            let exit = process::reap()?.context("the command was reaped by somebody else")?;
            Ok(ExitCode::from(u8::try_from(exit.code).unwrap_or(1)))
        }
        Fork::Child => {
            let entered = (|| {
                signal::reset_all()?;
                group.add_self()?;
                if let Some(terminal) = &terminal {
                    rustix::process::setsid()?;
                    terminal::take_control(&terminal.slave)?;
                    for number in 0..3 {
                        process::set_stdio(&terminal.slave, number)?;
                    }
                }
                namespaces.iter().try_for_each(Namespace::enter)?;
                anyhow::Ok(())
            })();
            let error = match entered {
                Ok(()) => exec(command),
                Err(error) => error.context("cannot enter the node"),
            };
            eprintln!("error: {error:#}");
            process::exit_now(127)
        }
    }
}

/// Becomes the command; returns only when that failed.
fn exec(command: &[OsString]) -> anyhow::Error {
    let shell = || SHELLS.into_iter().find(|shell| Path::new(shell).exists());
    let (program, arguments) = match command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (shell().unwrap_or(SHELLS[1]).into(), [].as_slice()),
    };
    let mut run = Command::new(&program);
    run.args(arguments).env_clear().env("PATH", PATH);
    run.env("HOME", "/root").current_dir("/root");
    for name in ["TERM", "LANG"] {
        if let Some(value) = std::env::var_os(name) {
            run.env(name, value);
        }
    }
    let error = run.exec();
    anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
}

/// A terminal among the node's own.
fn new_terminal(init: &Process) -> anyhow::Result<Terminal> {
    let path = format!("/proc/{}/root/dev/pts", init.pid().as_raw_nonzero());
    let terminals = linux::path::open_dir(Path::new(&path))?;
    let terminal = terminal::open_in(terminals)?;
    copy_size(&terminal.master)?;
    Ok(terminal)
}

fn copy_size(master: &OwnedFd) -> anyhow::Result<()> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin())?;
    Ok(terminal::resize(master, size.ws_col, size.ws_row)?)
}

/// The user's terminal without any manners of its own, until the value is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> anyhow::Result<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no manners.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Carries what is typed and shown until nobody has the other side open any more.
fn carry(master: &OwnedFd, signals: &Signals) -> anyhow::Result<()> {
    let _raw = Raw::new()?;
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let mut buffer = [0; 16 << 10];
    let mut typing = true;
    loop {
        let keys = if typing {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = [
            PollFd::new(master, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&stdin, keys),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let ready = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if ready[0] {
            match rustix::io::read(master, &mut buffer) {
                // The last one on the other side has closed it.
                Ok(0) | Err(Errno::IO) => return Ok(()),
                Ok(length) => write_all(&stdout, &buffer[..length])?,
                Err(error) => return Err(error.into()),
            }
        }
        if ready[1] {
            while signals.next()?.is_some() {}
            copy_size(master)?;
        }
        if typing && ready[2] {
            match rustix::io::read(&stdin, &mut buffer)? {
                0 => typing = false,
                length => write_all(master, &buffer[..length])?,
            }
        }
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(to.as_fd(), bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}
