//! The shim's one loop: calls in, children reaped, output copied.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::cgroup::{Cgroup, Hierarchies};
use linux::namespace::{Kind, Namespace};
use linux::process::{self, Fork, Process};
use linux::signal::Signals;
use linux::socket::{self, Message as Datagram};
use linux::{Context, Error, Result};
use oci::limits::Write;
use oci::user::User;
use oci::{ContainerPlan, PidNamespace};
use rustix::event::{PollFd, PollFlags};

use super::launch::{self, Stdio};
use super::log::Log;
use super::protocol::*;
use super::streams::{Ready, Streams};

/// How long killed processes may take to disappear (they cannot be held up but by a device that hangs).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The shim.
pub(crate) struct Server {
    plan: SandboxPlan,
    hierarchies: Hierarchies,
    listener: OwnedFd,
    socket: PathBuf,
    signals: Signals,
    /// The first process of the pod's PID namespace, if the containers share one.
    pause: Option<Process>,
    containers: BTreeMap<String, Container>,
    execs: BTreeMap<u64, Exec>,
    connections: BTreeMap<u64, OwnedFd>,
    starting: Vec<Starting>,
    next: u64,
    stopping: bool,
}

struct Container {
    plan: ContainerPlan,
    dir: PathBuf,
    cgroup: Cgroup,
    process: Process,
    streams: Streams,
    started: bool,
    exited: Option<Exited>,
}

struct Exec {
    process: Process,
    connection: u64,
    started: bool,
    /// It ended before its start was answered.
    code: Option<i32>,
}

/// A child that has not yet become its program.
struct Starting {
    what: What,
    connection: u64,
    request: u64,
    /// What it says about it.
    tell: OwnedFd,
    said: Vec<u8>,
    /// Where its terminal comes from.
    terminal: Option<OwnedFd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Container(String),
    Exec(u64),
}

/// What became ready in one round.
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Starting(usize),
    Streams(String, Ready),
}

type Reply = std::result::Result<(Answer, Option<OwnedFd>), Failure>;

impl Server {
    pub(crate) fn new(
        _dir: PathBuf,
        plan: SandboxPlan,
        hierarchies: Hierarchies,
        socket: &Path,
    ) -> Result<Server> {
        let signals = Signals::take(&[nix::sys::signal::Signal::SIGCHLD])?;
        let pause = if plan.shared_pids {
            Some(start_pause()?)
        } else {
            None
        };
        Ok(Server {
            plan,
            hierarchies,
            listener: socket::listen(socket)?,
            socket: socket.to_owned(),
            signals,
            pause,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            connections: BTreeMap::new(),
            starting: Vec::new(),
            next: 0,
            stopping: false,
        })
    }

    /// Serves until told to stop; answers with the exit code.
    pub(crate) fn run(mut self) -> i32 {
        while !self.stopping {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(_) => return 1,
            };
            for (source, flags) in ready {
                self.handle(source, flags);
            }
            self.finish_starting();
        }
        0
    }

    fn wait(&self) -> Result<Vec<(Source, PollFlags)>> {
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags, Source)> = vec![
            (self.listener.as_fd(), PollFlags::IN, Source::Listener),
            (self.signals.as_fd(), PollFlags::IN, Source::Signals),
        ];
        for (id, connection) in &self.connections {
            fds.push((connection.as_fd(), PollFlags::IN, Source::Connection(*id)));
        }
        for (index, starting) in self.starting.iter().enumerate() {
            fds.push((
                starting.tell.as_fd(),
                PollFlags::IN,
                Source::Starting(index),
            ));
        }
        for (id, container) in &self.containers {
            for (fd, flags, ready) in container.streams.interests() {
                fds.push((fd, flags, Source::Streams(id.clone(), ready)));
            }
        }
        let mut poll: Vec<_> = fds
            .iter()
            .map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        match rustix::event::poll(&mut poll, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::new("wait", error)),
        }
        let results: Vec<PollFlags> = poll.iter().map(PollFd::revents).collect();
        let all = fds.into_iter().zip(results);
        let ready = all.filter(|(_, flags)| !flags.is_empty());
        Ok(ready
            .map(|((_, _, source), flags)| (source, flags))
            .collect())
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => {
                if let Ok(Some(connection)) = socket::accept(&self.listener) {
                    self.next += 1;
                    self.connections.insert(self.next, connection);
                }
            }
            Source::Signals => {
                while let Ok(Some(_)) = self.signals.next() {}
                while let Ok(Some(exit)) = process::reap() {
                    self.child_exited(exit);
                }
            }
            Source::Connection(id) => self.read_call(id),
            Source::Starting(index) => {
                if let Some(starting) = self.starting.get_mut(index) {
                    starting.read();
                }
            }
            Source::Streams(id, ready) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.streams.ready(ready, flags);
                }
            }
        }
    }

    fn read_call(&mut self, connection: u64) {
        let Some(fd) = self.connections.get(&connection) else {
            return;
        };
        let message = match socket::receive(fd) {
            Ok(Some(message)) => message,
            Err(error) if error.source.kind() == std::io::ErrorKind::WouldBlock => return,
            _ => return self.hang_up(connection),
        };
        let Ok(request) = serde_json::from_slice::<Request>(&message.bytes) else {
            return self.hang_up(connection);
        };
        let (id, stop) = (request.id, matches!(request.call, Call::Shutdown));
        if let Some(reply) = self.call(connection, request, message) {
            self.answer(connection, id, reply);
        }
        self.stopping |= stop;
    }

    /// Who started an exec and is gone cannot take its output any more.
    fn hang_up(&mut self, connection: u64) {
        self.connections.remove(&connection);
        for exec in self
            .execs
            .values()
            .filter(|exec| exec.connection == connection)
        {
            let _ = exec.process.kill();
        }
    }

    fn answer(&mut self, connection: u64, id: u64, reply: Reply) {
        let (result, fd) = match reply {
            Ok((answer, fd)) => (Ok(answer), fd),
            Err(failure) => (Err(failure), None),
        };
        self.send(
            connection,
            &Message::Answer { id, result },
            fd.as_ref().map(AsFd::as_fd),
        );
    }

    fn send(&mut self, connection: u64, message: &Message, fd: Option<BorrowedFd<'_>>) {
        let Some(socket) = self.connections.get(&connection) else {
            return;
        };
        let sent = match serde_json::to_vec(message) {
            Ok(bytes) => socket::send(socket, &bytes, fd.as_slice()).is_ok(),
            Err(_) => false,
        };
        if !sent {
            // It does not read. When it comes back it asks what happened meanwhile.
            self.hang_up(connection);
        }
    }

    fn broadcast(&mut self, event: Event) {
        let message = Message::Event(event);
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            self.send(connection, &message, None);
        }
    }

    /// Carries out a call; `None` when the answer comes later.
    fn call(&mut self, connection: u64, request: Request, message: Datagram) -> Option<Reply> {
        let done = Ok((Answer::Done, None));
        let reply = match request.call {
            Call::Hello => Ok((self.hello(), None)),
            Call::Start { container, dir } => {
                match self.start(connection, request.id, container, dir) {
                    Ok(()) => return None,
                    Err(error) => Err(failed(&error)),
                }
            }
            Call::Exec {
                container,
                arguments,
                terminal,
            } => {
                let fds = message.descriptors;
                match self.exec(
                    connection, request.id, &container, &arguments, terminal, fds,
                ) {
                    Ok(()) => return None,
                    Err(failure) => Err(failure),
                }
            }
            Call::Signal { container, signal } => self
                .running(&container)
                .and_then(|one| one.process.signal(signal).map_err(|error| failed(&error)))
                .and(done),
            Call::Kill { container } => self
                .running(&container)
                .and_then(|one| one.kill().map_err(|error| failed(&error)))
                .and(done),
            Call::KillExec { exec } => match self.execs.get(&exec) {
                Some(exec) => exec
                    .process
                    .kill()
                    .map_err(|error| failed(&error))
                    .and(done),
                None => done,
            },
            Call::Attach { container, streams } => self
                .attach(&container, streams, message.descriptors)
                .and(done),
            Call::Resize {
                container,
                columns,
                rows,
            } => self
                .running(&container)
                .and_then(|one| one.streams.terminal().ok_or(Failure::NotRunning))
                .and_then(|fd| {
                    linux::terminal::resize(fd, columns, rows).map_err(|error| failed(&error))
                })
                .and(done),
            Call::ReopenLog { container } => match self.containers.get_mut(&container) {
                Some(one) => {
                    let reopened = one.streams.log.reopen();
                    reopened
                        .map_err(|error| Failure::Failed(error.to_string()))
                        .and(done)
                }
                None => Err(Failure::NotFound),
            },
            Call::Connect { port } => match connect(port) {
                Ok(socket) => Ok((Answer::Done, Some(socket))),
                Err(error) => Err(failed(&error)),
            },
            Call::Forget { container } => {
                if self
                    .containers
                    .get(&container)
                    .is_some_and(|one| one.exited.is_some())
                {
                    self.containers.remove(&container);
                }
                done
            }
            Call::Shutdown => {
                self.shut_down();
                done
            }
        };
        Some(reply)
    }

    fn hello(&self) -> Answer {
        let containers = self
            .containers
            .iter()
            .map(|(id, one)| (id.clone(), one.exited.clone()));
        Answer::Hello {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            containers: containers.collect(),
        }
    }

    fn running(&self, id: &str) -> std::result::Result<&Container, Failure> {
        let container = self.containers.get(id).ok_or(Failure::NotFound)?;
        if container.exited.is_some() {
            Err(Failure::NotRunning)
        } else {
            Ok(container)
        }
    }

    /// Forks a container's first process; the answer follows when it has become its program.
    fn start(&mut self, connection: u64, request: u64, id: String, dir: PathBuf) -> Result<()> {
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

    fn exec(
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
    fn finish_starting(&mut self) {
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

    fn attach(
        &mut self,
        id: &str,
        streams: [bool; 3],
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(), Failure> {
        self.running(id)?;
        let container = self.containers.get_mut(id).ok_or(Failure::NotFound)?;
        let mut fds = fds.into_iter();
        let [input, stdout, stderr] = streams.map(|wanted| if wanted { fds.next() } else { None });
        container
            .streams
            .attach(input, [stdout, stderr])
            .map_err(|error| failed(&error))
    }

    fn child_exited(&mut self, exit: process::Exit) {
        let container = self
            .containers
            .iter()
            .find(|(_, one)| one.exited.is_none() && one.process.pid() == exit.pid)
            .map(|(id, _)| id.clone());
        if let Some(id) = container {
            self.settle(&What::Container(id.clone()));
            return self.container_exited(&id, exit.code);
        }
        let exec = self
            .execs
            .iter()
            .find(|(_, one)| one.process.pid() == exit.pid);
        if let Some(exec) = exec.map(|(id, _)| *id) {
            self.settle(&What::Exec(exec));
            self.exec_exited(exec, exit.code);
        }
        // Anybody else is an orphan of a container that shares our PID namespace.
    }

    /// Reads the last words of a child that has exited before its start is answered.
    fn settle(&mut self, what: &What) {
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

    fn container_exited(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.plan.pid != PidNamespace::Container {
            // No namespace died with the first process, so the others are still there.
            let _ = container.cgroup.kill(KILL_TIMEOUT);
        }
        container.streams.finish();
        let out_of_memory = code != 0 && container.cgroup.oom_kills() > 0;
        let exited = Exited {
            code,
            at: super::now(),
            out_of_memory,
        };
        container.exited = Some(exited.clone());
        let _ = super::write_json(&container.dir, EXITED, &exited);
        let _ = container.cgroup.remove();
        self.broadcast(Event::Exited {
            container: id.to_owned(),
            exited,
        });
    }

    fn exec_exited(&mut self, exec: u64, code: i32) {
        let Some(one) = self.execs.get_mut(&exec) else {
            return;
        };
        if !one.started && one.code.is_none() {
            one.code = Some(code);
            if self
                .starting
                .iter()
                .any(|starting| starting.what == What::Exec(exec))
            {
                return;
            }
            self.execs.remove(&exec);
            return;
        }
        if let Some(one) = self.execs.remove(&exec) {
            let event = Message::Event(Event::ExecExited { exec, code });
            self.send(one.connection, &event, None);
        }
    }

    fn shut_down(&mut self) {
        for container in self.containers.values().filter(|one| one.exited.is_none()) {
            let _ = container.cgroup.kill(KILL_TIMEOUT);
        }
        if let Some(pause) = &self.pause {
            let _ = pause.kill();
            let _ = pause.wait_exit(Some(KILL_TIMEOUT));
        }
        while let Ok(Some(exit)) = process::reap() {
            self.child_exited(exit);
        }
        if let Some((path, _)) = &self.plan.shm {
            let _ = linux::mount::unmount(path);
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Container {
    fn kill(&self) -> Result<()> {
        match self.plan.pid {
            // With the first process the kernel kills its whole PID namespace.
            PidNamespace::Container => self.process.kill(),
            _ => self.cgroup.kill(KILL_TIMEOUT),
        }
    }
}

impl Starting {
    fn read(&mut self) {
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

fn failed(error: &Error) -> Failure {
    Failure::Failed(cri::chain(error))
}

/// The first process of a shared PID namespace: it exists, and the kernel reaps for it.
fn start_pause() -> Result<Process> {
    match process::fork(&[Kind::Pid], None)? {
        Fork::Parent(process) => Ok(process),
        Fork::Child => {
            let _ = process::die_with_parent();
            let _ = process::set_name("pause");
            let _ = linux::signal::reset_all();
            process::pause_forever()
        }
    }
}

/// Writes all limits and, unless the container is privileged, the device rules of version 1.
fn limit(cgroup: &Cgroup, plan: &ContainerPlan) -> Result<()> {
    let mut writes = match cgroup.is_v2() {
        true => oci::limits::v2(&plan.limits),
        false => oci::limits::v1(&plan.limits),
    };
    if !cgroup.is_v2() && !plan.privileged {
        writes.extend(oci::limits::v1_device_rules());
        for device in &plan.devices {
            writes.extend(device_rule(device)?);
        }
    }
    apply(cgroup, &writes)?;
    match cgroup.open()? {
        Some(group) if !plan.privileged => {
            linux::device_filter::restrict(group, &device_filter(plan)?)
        }
        _ => Ok(()),
    }
}

/// The same rules for version 2.
fn device_filter(plan: &ContainerPlan) -> Result<Vec<linux::device_filter::Rule>> {
    let mut writes = oci::limits::v1_device_rules();
    for device in &plan.devices {
        writes.extend(device_rule(device)?);
    }
    let rules = writes
        .iter()
        .filter_map(|write| oci::limits::parse_device_rule(&write.value));
    let rules = rules.map(|rule| linux::device_filter::Rule {
        block: rule.block,
        major: rule.major,
        minor: rule.minor,
        read: rule.permissions.contains('r'),
        write: rule.permissions.contains('w'),
        mknod: rule.permissions.contains('m'),
    });
    Ok(rules.collect())
}

/// Writes cgroup files; those that a machine may lack are left out there.
pub(crate) fn apply(cgroup: &Cgroup, writes: &[Write]) -> Result<()> {
    for write in writes {
        if let Err(error) = cgroup.write(&write.controller, &write.file, &write.value)
            && !write.optional
        {
            return Err(error);
        }
    }
    Ok(())
}

fn device_rule(device: &oci::limits::Device) -> Result<Option<Write>> {
    use rustix::fs::FileType;
    let path = Path::new(&device.host_path);
    let stat = rustix::fs::stat(path).context(|| format!("look at {}", path.display()))?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok(Some(oci::limits::v1_device_rule(
        block,
        major,
        minor,
        &device.permissions,
    )))
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

/// Connects to a port on the loopback of the pod: version 4 first, then 6.
fn connect(port: u16) -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    let mut last = None;
    let addresses = [
        (
            AddressFamily::INET,
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        ),
        (
            AddressFamily::INET6,
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ),
    ];
    for (family, address) in addresses {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let attempt = socket.and_then(|socket| match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        });
        match attempt {
            Ok(socket) => return Ok(socket),
            // The first answer is the one that means something to people.
            Err(error) => last = last.or(Some(error)),
        }
    }
    let error = last.unwrap_or(rustix::io::Errno::CONNREFUSED);
    Err(Error::new(
        format!("connect to port {port} of the pod"),
        error,
    ))
}
