//! Commands run in containers, attaching to containers, connections into pods: the streams behind
//! all three.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use cri::v1::{self, ContainerState};
use cri::{Code, Error};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::client::Shim;
use crate::shim::protocol::{Answer, Call};
use crate::world::Runtime;

/// The most output of one stream that ExecSync keeps; what comes after is dropped.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// How long a command's output may go on after its end, when something it left behind keeps it
/// open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// One end of a pipe or a terminal.
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Stream> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        crate::client::watch(fd).map(Stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|fd| rustix::io::read(fd, space).map_err(io::Error::from)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // A terminal answers so when its last user has gone: that is its end.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| rustix::io::write(fd, bytes).map_err(io::Error::from)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A pipe ends when it is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A command that runs in a container.
pub(crate) struct Executing {
    shim: Arc<Shim>,
    exec: u64,
    exit: tokio::sync::oneshot::Receiver<i32>,
    stdin: Option<Stream>,
    stdout: Stream,
    stderr: Option<Stream>,
    terminal: Option<OwnedFd>,
}

impl Executing {
    async fn kill(&self) {
        let _ = self
            .shim
            .call(Call::KillExec { exec: self.exec }, &[])
            .await;
    }
}

impl Runtime {
    /// The shim of a container that runs.
    fn running(&self, container: &str) -> Result<(String, Arc<Shim>), Error> {
        let container = self.container(container)?;
        if container.state() != ContainerState::ContainerRunning {
            let state = container.state().as_str_name();
            return Err(Error::failed_precondition(format!(
                "container is in {state} state"
            )));
        }
        let live = self.live(&container.record.sandbox)?;
        Ok((container.record.id.clone(), live.shim))
    }

    /// Starts a command in a container. Without a terminal all three streams are pipes of ours.
    pub(crate) async fn start_exec(
        &self,
        container: &str,
        arguments: Vec<String>,
        terminal: bool,
        stdin: bool,
    ) -> Result<Executing, Error> {
        if arguments.is_empty() || arguments.iter().any(|one| one.contains('\0')) {
            return Err(Error::invalid("exec needs a command"));
        }
        let (container, shim) = self.running(container)?;
        let call = Call::Exec {
            container,
            arguments,
            terminal,
        };
        let failed = |error: io::Error| Error::internal(error);
        if terminal {
            let reply = shim.call(call, &[]).await?;
            let exec = exec_number(&reply.result)?;
            let (Some(master), Some(exit)) = (reply.descriptor, reply.exit) else {
                return Err(Error::new(Code::Internal, "the shim made no terminal"));
            };
            return Ok(Executing {
                exec,
                exit,
                stdin: Some(Stream::new(master.try_clone().map_err(failed)?).map_err(failed)?),
                stdout: Stream::new(master.try_clone().map_err(failed)?).map_err(failed)?,
                stderr: None,
                terminal: Some(master),
                shim,
            });
        }
        let (theirs_in, ours_in) = match stdin {
            true => pipe().map(|(read, write)| (read, Some(write)))?,
            false => (
                std::fs::File::open("/dev/null").map_err(failed)?.into(),
                None,
            ),
        };
        let (ours_out, theirs_out) = pipe()?;
        let (ours_err, theirs_err) = pipe()?;
        let fds = [theirs_in.as_fd(), theirs_out.as_fd(), theirs_err.as_fd()];
        let reply = shim.call(call, &fds).await?;
        let exec = exec_number(&reply.result)?;
        let exit = reply
            .exit
            .ok_or_else(|| Error::new(Code::Internal, "the shim is gone"))?;
        Ok(Executing {
            exec,
            exit,
            stdin: ours_in.map(Stream::new).transpose().map_err(failed)?,
            stdout: Stream::new(ours_out).map_err(failed)?,
            stderr: Some(Stream::new(ours_err).map_err(failed)?),
            terminal: None,
            shim,
        })
    }

    pub(crate) async fn run_exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, Error> {
        let mut exec = self
            .start_exec(&request.container_id, request.cmd, false, false)
            .await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let work = async {
            let errors = exec.stderr.take();
            let output = keep(Some(&mut exec.stdout), &mut stdout);
            let mut errors = errors;
            let errors = keep(errors.as_mut(), &mut stderr);
            let both = async { tokio::join!(output, errors) };
            tokio::pin!(both);
            let mut done = false;
            let code = tokio::select! {
                code = &mut exec.exit => code,
                _ = &mut both => { done = true; (&mut exec.exit).await }
            };
            if !done {
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, both).await;
            }
            code
        };
        let outcome = match u64::try_from(request.timeout) {
            Ok(seconds) if seconds > 0 => {
                tokio::time::timeout(Duration::from_secs(seconds), work).await
            }
            _ => Ok(work.await),
        };
        match outcome {
            Ok(Ok(exit_code)) => Ok(v1::ExecSyncResponse {
                stdout,
                stderr,
                exit_code,
            }),
            Ok(Err(_)) => Err(Error::new(Code::Unavailable, "the container is gone")),
            Err(_) => {
                exec.kill().await;
                let message = format!(
                    "failed to exec in container: timeout {}s exceeded: context deadline exceeded",
                    request.timeout
                );
                Err(Error::new(Code::DeadlineExceeded, message))
            }
        }
    }

    /// Runs a command with a client's streams; its exit code once all output is written.
    pub(crate) async fn exec_streams(
        &self,
        container: &str,
        command: Vec<String>,
        terminal: bool,
        streams: streaming::Streams,
    ) -> Result<i32, Error> {
        let streaming::Streams {
            stdin,
            stdout,
            stderr,
            mut resize,
        } = streams;
        let exec = self
            .start_exec(container, command, terminal, stdin.is_some())
            .await?;
        let Executing {
            exit,
            stdin: input,
            stdout: output,
            stderr: errors,
            terminal,
            ..
        } = exec;
        let typing = async {
            if let (Some(mut from), Some(mut to)) = (stdin, input) {
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
            // Dropping it told the command that there is no more; then there is nothing to do here.
            std::future::pending::<()>().await;
        };
        let resizing = async {
            while let (Some(size), Some(master)) = (resize.next().await, &terminal) {
                let _ = linux::terminal::resize(master, size.width, size.height);
            }
            std::future::pending::<()>().await;
        };
        let showing = async {
            tokio::join!(show(Some(output), stdout), show(errors, stderr));
        };
        tokio::pin!(showing);
        let waiting = async {
            tokio::pin!(exit);
            tokio::select! {
                code = &mut exit => {
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, &mut showing).await;
                    code
                }
                () = &mut showing => exit.await,
            }
        };
        let code = tokio::select! {
            code = waiting => code,
            () = typing => unreachable!("it never ends"),
            () = resizing => unreachable!("it never ends"),
        };
        code.map_err(|_| Error::new(Code::Unavailable, "the container is gone"))
    }

    /// Connects a client's streams to a container until its output or the client's input ends.
    pub(crate) async fn attach_streams(
        &self,
        container: &str,
        streams: streaming::Streams,
    ) -> Result<(), Error> {
        let (id, shim) = self.running(container)?;
        let streaming::Streams {
            stdin,
            stdout,
            stderr,
            mut resize,
        } = streams;
        let (theirs_in, ours_in) = optional_pipe(stdin.is_some())?;
        let (ours_out, theirs_out) = optional_pipe(stdout.is_some())?;
        let (ours_err, theirs_err) = optional_pipe(stderr.is_some())?;
        let all = [&theirs_in, &theirs_out, &theirs_err];
        let call = Call::Attach {
            container: id.clone(),
            streams: all.map(Option::is_some),
        };
        let fds: Vec<_> = all.into_iter().flatten().map(AsFd::as_fd).collect();
        shim.call(call, &fds).await?;
        drop((theirs_in, theirs_out, theirs_err));
        let stream = |fd: Option<OwnedFd>| fd.map(Stream::new).transpose().map_err(Error::internal);
        let (input, output, errors) = (stream(ours_in)?, stream(ours_out)?, stream(ours_err)?);
        let watches = output.is_some() || errors.is_some();
        let typing = async {
            if let (Some(mut from), Some(mut to)) = (stdin, input) {
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
            if watches {
                std::future::pending::<()>().await;
            }
        };
        let resizing = async {
            while let Some(size) = resize.next().await {
                let (columns, rows) = (size.width, size.height);
                let _ = shim
                    .call(
                        Call::Resize {
                            container: id.clone(),
                            columns,
                            rows,
                        },
                        &[],
                    )
                    .await;
            }
            std::future::pending::<()>().await;
        };
        let showing = async {
            tokio::join!(show(output, stdout), show(errors, stderr));
            if !watches {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = typing => {}
            () = showing => {}
            () = resizing => {}
        }
        Ok(())
    }

    /// A connection to a port on a pod's loopback.
    pub(crate) async fn port_forward_stream(
        &self,
        sandbox: &str,
        port: u16,
    ) -> Result<TcpStream, Error> {
        let live = self.live(&self.sandbox(sandbox)?.record.id.clone())?;
        let reply = live.shim.call(Call::Connect { port }, &[]).await?;
        let socket = reply
            .descriptor
            .ok_or_else(|| Error::new(Code::Internal, "no connection"))?;
        let stream = TcpStream::from_std(socket.into()).map_err(Error::internal)?;
        stream.writable().await.map_err(Error::internal)?;
        match stream.take_error().map_err(Error::internal)? {
            None => Ok(stream),
            Some(error) => {
                let message =
                    format!("failed to connect to localhost:{port} inside namespace: {error}");
                Err(Error::new(Code::Unknown, message))
            }
        }
    }
}

fn exec_number(result: &Result<Answer, crate::shim::protocol::Failure>) -> Result<u64, Error> {
    match result {
        Ok(Answer::Executing { exec }) => Ok(*exec),
        _ => Err(Error::new(Code::Internal, "the shim gave a strange answer")),
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::internal)
}

/// Reading and writing end, if wanted.
fn optional_pipe(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Error> {
    match wanted {
        true => pipe().map(|(read, write)| (Some(read), Some(write))),
        false => Ok((None, None)),
    }
}

/// Reads to the end and keeps a bounded part.
async fn keep(from: Option<&mut Stream>, kept: &mut Vec<u8>) {
    let Some(from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
}

/// Copies output to a client to the end. When the client takes no more, the command is not held up.
async fn show(from: Option<Stream>, to: Option<streaming::Output>) {
    let Some(mut from) = from else { return };
    let Some(mut to) = to else {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        return;
    };
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// The streaming server's handlers.
pub(crate) struct Handlers(pub(crate) std::sync::Weak<Runtime>);

impl Handlers {
    fn runtime(&self) -> Result<Arc<Runtime>, streaming::Error> {
        self.0
            .upgrade()
            .ok_or_else(|| "the runtime is shutting down".into())
    }
}

#[async_trait]
impl streaming::Runtime for Handlers {
    async fn exec(
        &self,
        request: streaming::ExecRequest,
        streams: streaming::Streams,
    ) -> Result<i32, streaming::Error> {
        let runtime = self.runtime()?;
        let terminal = request.options.tty;
        let run = runtime.exec_streams(&request.container_id, request.command, terminal, streams);
        run.await.map_err(|error| error.message.into())
    }

    async fn attach(
        &self,
        request: streaming::AttachRequest,
        streams: streaming::Streams,
    ) -> Result<(), streaming::Error> {
        let runtime = self.runtime()?;
        let attached = runtime.attach_streams(&request.container_id, streams).await;
        attached.map_err(|error| error.message.into())
    }

    async fn connect(
        &self,
        sandbox_id: &str,
        port: u16,
    ) -> Result<Box<dyn streaming::Duplex>, streaming::Error> {
        let runtime = self.runtime()?;
        let stream = runtime.port_forward_stream(sandbox_id, port).await;
        Ok(Box::new(stream.map_err(|error| error.message)?))
    }
}
