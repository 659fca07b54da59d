//! The shim's one loop: calls in, children reaped, output copied.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::cgroup::{Cgroup, Hierarchies};
use linux::namespace::Kind;
use linux::process::{self, Fork, Process};
use linux::signal::Signals;
use linux::socket::{self, Message as Datagram};
use linux::{Error, Result};
use oci::{ContainerPlan, PidNamespace};
use rustix::event::{PollFd, PollFlags};

use super::protocol::*;
use super::starting::{Starting, What};
use super::streams::{Ready, Streams};

/// How long killed processes may take to disappear (they cannot be held up but by a device that
/// hangs).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The shim.
pub(crate) struct Server {
    plan: SandboxPlan,
    pub(super) hierarchies: Hierarchies,
    listener: OwnedFd,
    socket: PathBuf,
    signals: Signals,
    /// The first process of the pod's PID namespace, if the containers share one.
    pub(super) pause: Option<Process>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) execs: BTreeMap<u64, Exec>,
    connections: BTreeMap<u64, OwnedFd>,
    pub(super) starting: Vec<Starting>,
    pub(super) next: u64,
    stopping: bool,
}

pub(super) struct Container {
    pub(super) plan: ContainerPlan,
    pub(super) dir: PathBuf,
    pub(super) cgroup: Cgroup,
    pub(super) process: Process,
    pub(super) streams: Streams,
    pub(super) started: bool,
    pub(super) exited: Option<Exited>,
}

pub(super) struct Exec {
    pub(super) process: Process,
    pub(super) connection: u64,
    pub(super) started: bool,
    /// It ended before its start was answered.
    pub(super) code: Option<i32>,
}

/// What became ready in one round.
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Starting(usize),
    Streams(String, Ready),
}

pub(super) type Reply = std::result::Result<(Answer, Option<OwnedFd>), Failure>;

impl Server {
    pub(crate) fn new(
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

    pub(super) fn answer(&mut self, connection: u64, id: u64, reply: Reply) {
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
        let fds = message.descriptors;
        let begun = match request.call {
            Call::Start { container, dir } => self
                .start(connection, request.id, container, dir)
                .map_err(|error| failed(&error)),
            Call::Exec {
                container,
                arguments,
                terminal,
            } => self.exec(
                connection, request.id, &container, &arguments, terminal, fds,
            ),
            call => return Some(self.call_now(call, fds)),
        };
        begun.err().map(Err)
    }

    /// Carries out a call that is done at once.
    fn call_now(&mut self, call: Call, fds: Vec<OwnedFd>) -> Reply {
        match call {
            // Begun by the caller of this.
            Call::Start { .. } | Call::Exec { .. } => return Err(Failure::NotFound),
            Call::Hello => return Ok((self.hello(), None)),
            Call::Connect { port } => {
                let socket = connect(port).map_err(|error| failed(&error))?;
                return Ok((Answer::Done, Some(socket)));
            }
            Call::Signal { container, signal } => {
                let process = &self.running(&container)?.process;
                process.signal(signal).map_err(|error| failed(&error))?;
            }
            Call::Kill { container } => {
                self.running(&container)?
                    .kill()
                    .map_err(|error| failed(&error))?;
            }
            Call::KillExec { exec } => {
                if let Some(exec) = self.execs.get(&exec) {
                    exec.process.kill().map_err(|error| failed(&error))?;
                }
            }
            Call::Attach { container, streams } => self.attach(&container, streams, fds)?,
            Call::Resize {
                container,
                columns,
                rows,
            } => {
                let terminal = self.running(&container)?.streams.terminal();
                let terminal = terminal.ok_or(Failure::NotRunning)?;
                linux::terminal::resize(terminal, columns, rows).map_err(|error| failed(&error))?;
            }
            Call::ReopenLog { container } => {
                let container = self
                    .containers
                    .get_mut(&container)
                    .ok_or(Failure::NotFound)?;
                let reopened = container.streams.log.reopen();
                reopened.map_err(|error| Failure::Failed(error.to_string()))?;
            }
            Call::Forget { container } => {
                if self
                    .containers
                    .get(&container)
                    .is_some_and(|one| one.exited.is_some())
                {
                    self.containers.remove(&container);
                }
            }
            Call::Shutdown => self.shut_down(),
        }
        Ok((Answer::Done, None))
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

    pub(super) fn running(&self, id: &str) -> std::result::Result<&Container, Failure> {
        let container = self.containers.get(id).ok_or(Failure::NotFound)?;
        if container.exited.is_some() {
            Err(Failure::NotRunning)
        } else {
            Ok(container)
        }
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

    pub(super) fn exec_exited(&mut self, exec: u64, code: i32) {
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

pub(super) fn failed(error: &Error) -> Failure {
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
