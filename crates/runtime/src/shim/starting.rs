//! Children on their way: forked by the shim, not yet the container's program.
//!
//! The shim goes on serving meanwhile; the answer follows when the child has become its program, or
//! has said why it could not.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use linux::cgroup::Cgroup;
use linux::namespace::{Kind, Namespace};
use linux::process::{self, Fork, Process};
use linux::{Context, Error, Result, socket};
use oci::user::User;
use oci::{ContainerPlan, PidNamespace};

use super::launch::{self, Stdio};
use super::limits::limit;
use super::log::Log;
use super::protocol::*;
use super::server::{Container, Exec, Reply, Server, failed};
use super::streams::Streams;

/// A child that has not yet become its program.
pub(super) struct Starting {
    pub(super) what: What,
    pub(super) connection: u64,
    pub(super) request: u64,
    /// What it says about it.
    pub(super) tell: OwnedFd,
    pub(super) said: Vec<u8>,
    /// Where its terminal comes from.
    pub(super) terminal: Option<OwnedFd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Container(String),
    Exec(u64),
}

impl Server {
    /// Forks a container's first process; the answer follows when it has become its program.
    pub(super) fn start(
        &mut self,
        connection: u64,
        request: u64,
        id: String,
        dir: PathBuf,
    ) -> Result<()> {
        let plan: ContainerPlan = super::read_json(&dir.join(CONTAINER_PLAN))?;
        let cgroup = self.hierarchies.group(&plan.cgroup);
        cgroup.create()?;
        let limited = limit(&cgroup, &plan);
        let forked = limited.and_then(|()| self.fork_container(&plan, &cgroup));
        let (process, streams, tell, terminal) = match forked {
            Ok(forked) => forked,
            Err(error) => {
                let _ = cgroup.remove();
                return Err(error);
            }
        };
        self.containers.insert(
            id.clone(),
            Container {
                plan,
                dir,
                cgroup,
                process,
                streams,
                started: false,
                exited: None,
            },
        );
        let what = What::Container(id);
        self.starting.push(Starting {
            what,
            connection,
            request,
            tell,
            said: Vec::new(),
            terminal,
        });
        Ok(())
    }

    fn fork_container(
        &mut self,
        plan: &ContainerPlan,
        cgroup: &Cgroup,
    ) -> Result<(Process, Streams, OwnedFd, Option<OwnedFd>)> {
        let mut streams = Streams::new(Log::open(plan.log_path.as_deref()), plan.stdin_once);
        let (stdio, terminal) = if plan.terminal {
            let (ours, theirs) = socket::pair()?;
            (Stdio::Terminal(theirs), Some(ours))
        } else {
            let (stdin, input) = match plan.stdin {
                true => pipe().map(|(read, write)| (read, Some(write)))?,
                false => (null()?, None),
            };
            let (out, stdout) = pipe()?;
            let (err, stderr) = pipe()?;
            streams.set_pipes(input, [out, err])?;
            (Stdio::Plain([stdin, stdout, stderr]), None)
        };
        let (told, tell) = pipe()?;
        let mut kinds = vec![Kind::Mount];
        let back = match &plan.pid {
            PidNamespace::Container => {
                kinds.push(Kind::Pid);
                None
            }
            other => self.enter_pid_namespace(other)?,
        };
        let forked = process::fork(&kinds, None);
        if let (Some(back), Ok(Fork::Parent(_)) | Err(_)) = (back, &forked) {
            back.enter()?;
        }
        match forked? {
            Fork::Child => launch::container(plan, cgroup, stdio, tell),
            Fork::Parent(process) => Ok((process, streams, told, terminal)),
        }
    }

    /// Makes the next child a member of another PID namespace; answers with the way back.
    fn enter_pid_namespace(&self, which: &PidNamespace) -> Result<Option<Namespace>> {
        let pid = match which {
            PidNamespace::Container | PidNamespace::Host => return Ok(None),
            PidNamespace::Pod => self.pause.as_ref().map(Process::pid),
            PidNamespace::Target(id) => self.running(id).ok().map(|one| one.process.pid()),
        };
        let missing = || Error::new("join a PID namespace", rustix::io::Errno::SRCH);
        let back = Namespace::current(Kind::Pid)?;
        Namespace::of(pid.ok_or_else(missing)?, Kind::Pid)?.enter()?;
        Ok(Some(back))
    }

    pub(super) fn exec(
        &mut self,
        connection: u64,
        request: u64,
        id: &str,
        arguments: &[String],
        terminal: bool,
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(), Failure> {
        let container = self.running(id)?;
        if !container.started {
            return Err(Failure::NotRunning);
        }
        let forked = self.fork_exec(container, arguments, terminal, fds);
        let (process, tell, terminal) = forked.map_err(|error| failed(&error))?;
        self.next += 1;
        let exec = Exec {
            process,
            connection,
            started: false,
            code: None,
        };
        self.execs.insert(self.next, exec);
        let what = What::Exec(self.next);
        self.starting.push(Starting {
            what,
            connection,
            request,
            tell,
            said: Vec::new(),
            terminal,
        });
        Ok(())
    }

    fn fork_exec(
        &self,
        container: &Container,
        arguments: &[String],
        terminal: bool,
        fds: Vec<OwnedFd>,
    ) -> Result<(Process, OwnedFd, Option<OwnedFd>)> {
        let (stdio, socket) = if terminal {
            let (ours, theirs) = socket::pair()?;
            (Stdio::Terminal(theirs), Some(ours))
        } else {
            let fds = <[OwnedFd; 3]>::try_from(fds);
            let fds =
                fds.map_err(|_| Error::new("exec needs three streams", rustix::io::Errno::INVAL))?;
            (Stdio::Plain(fds), None)
        };
        let (told, tell) = pipe()?;
        let pid = container.process.pid();
        // The child of ours is unreaped as long as it is in the table: the number is still its own.
        let mut inside = vec![Namespace::of(pid, Kind::Mount)?];
        if container.cgroup.is_v2() {
            inside.insert(0, Namespace::of(pid, Kind::Cgroup)?);
        }
        let back = Namespace::current(Kind::Pid)?;
        Namespace::of(pid, Kind::Pid)?.enter()?;
        let forked = process::fork(&[], None);
        if let Ok(Fork::Child) = forked {
            launch::exec(
                &container.plan,
                arguments,
                &container.cgroup,
                &inside,
                stdio,
                tell,
            );
        }
        back.enter()?;
        match forked? {
            Fork::Parent(process) => Ok((process, told, socket)),
            Fork::Child => process::exit_now(1),
        }
    }

    /// Answers for those children that have become their programs or have failed to.
    pub(super) fn finish_starting(&mut self) {
        while let Some(at) = self.starting.iter().position(Starting::is_over) {
            let starting = self.starting.remove(at);
            let said = String::from_utf8_lossy(&starting.said).into_owned();
            let error = said.lines().find_map(|line| line.strip_prefix("error "));
            let user = said.lines().find_map(|line| line.strip_prefix("user "));
            let terminal = starting.terminal.as_ref().and_then(receive_terminal);
            let outcome = match error {
                Some(error) => Err(Failure::Failed(error.to_owned())),
                // Killed on its way, for example for want of memory.
                None if user.is_none() => Err(Failure::Failed("the process ended early".into())),
                None => {
                    Ok(serde_json::from_str::<User>(user.unwrap_or_default()).unwrap_or_default())
                }
            };
            let reply = match &starting.what {
                What::Container(id) => self.container_started(id, outcome, terminal),
                What::Exec(exec) => {
                    if let (Some(one), Ok(_)) = (self.execs.get_mut(exec), &outcome) {
                        one.started = true;
                    }
                    outcome.map(|_| (Answer::Executing { exec: *exec }, terminal))
                }
            };
            let failed = reply.is_err();
            self.answer(starting.connection, starting.request, reply);
            if let What::Exec(exec) = starting.what {
                let code = self.execs.get(&exec).and_then(|exec| exec.code);
                match code {
                    Some(_) if failed => drop(self.execs.remove(&exec)),
                    Some(code) => self.exec_exited(exec, code),
                    None => {}
                }
            }
        }
    }

    fn container_started(
        &mut self,
        id: &str,
        outcome: std::result::Result<User, Failure>,
        terminal: Option<OwnedFd>,
    ) -> Reply {
        let Some(container) = self.containers.get_mut(id) else {
            return Err(Failure::NotFound);
        };
        let user = outcome?;
        if let Some(master) = terminal {
            container
                .streams
                .set_terminal(master)
                .map_err(|error| failed(&error))?;
        }
        container.started = true;
        // Exec is the same user, whatever the container does to its user database meanwhile.
        container.plan.user = oci::user::UserChoice {
            user: format!("{}:{}", user.uid, user.gid),
            supplemental_groups: user.groups.clone(),
            strict: true,
        };
        let pid = container.process.pid().as_raw_nonzero().get();
        let started = Started {
            pid,
            at: super::now(),
            user,
        };
        // Only the answer counts; the note is for a runtime that is restarted.
        let _ = super::write_json(&container.dir, STARTED, &started);
        Ok((Answer::Started(started), None))
    }

    /// Reads the last words of a child that has exited before its start is answered.
    pub(super) fn settle(&mut self, what: &What) {
        for starting in self
            .starting
            .iter_mut()
            .filter(|starting| starting.what == *what)
        {
            starting.read();
            starting.over();
        }
        self.finish_starting();
    }
}

impl Starting {
    pub(super) fn read(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.tell, &mut buffer) {
            Ok(0) => self.over(),
            Ok(read) if self.said.len() < 64 * 1024 => self.said.extend_from_slice(&buffer[..read]),
            _ => {}
        }
    }

    fn over(&mut self) {
        self.said.push(b'\0');
    }

    fn is_over(&self) -> bool {
        self.said.last() == Some(&b'\0')
    }
}

fn receive_terminal(socket: &OwnedFd) -> Option<OwnedFd> {
    socket::receive(socket).ok().flatten()?.descriptors.pop()
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "make a pipe")
}

fn null() -> Result<OwnedFd> {
    std::fs::File::open("/dev/null")
        .map(OwnedFd::from)
        .context(|| "open /dev/null")
}
