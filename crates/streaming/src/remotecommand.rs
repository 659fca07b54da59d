//! Exec and attach (cri-streaming, `remotecommand`).
//!
//! A session is the same over every transport: streams for input, output, errors and the size of
//! the terminal, and at the end a status on a stream of its own. The transports differ in how the
//! streams are made and in what the client is told last.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::status::{Form, render};
use crate::{
    Body, Error, Executor, Input, Output, Resizes, StreamOptions, Streams, TerminalSize,
    http_upgrade, spdy, websocket,
};

/// How long a client may take to open its streams.
const STREAM_CREATION: Duration = Duration::from_secs(30);

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";

const OVER_WEBSOCKET: [&str; 5] = [V5, V4, V4_BASE64, V1, V1_BASE64];
const OVER_SPDY: [&str; 4] = [V4, V3, V2, V1];

/// The answer to a request, and what is to be done once it has been sent.
pub(crate) struct Prepared {
    pub(crate) response: Response<Body>,
    pub(crate) session: Option<BoxFuture<'static, ()>>,
}

impl Prepared {
    pub(crate) fn refused(response: Response<Body>) -> Prepared {
        Prepared {
            response,
            session: None,
        }
    }

    /// Starts the session in a task of its own.
    pub(crate) fn start(self) -> Response<Body> {
        if let Some(session) = self.session {
            tokio::spawn(session);
        }
        self.response
    }
}

/// Serves a request to run a command. The session goes on after the response has been sent and
/// ends with its connection.
pub async fn serve_exec<B>(
    request: Request<B>,
    options: StreamOptions,
    executor: impl Executor,
) -> Response<Body> {
    prepare(
        request,
        options,
        Box::new(executor),
        "executing command in container",
    )
    .start()
}

/// Serves a request to attach to a running command; as [`serve_exec`].
pub async fn serve_attach<B>(
    request: Request<B>,
    options: StreamOptions,
    executor: impl Executor,
) -> Response<Body> {
    prepare(
        request,
        options,
        Box::new(executor),
        "attaching to container",
    )
    .start()
}

/// Agrees with the client on a protocol. `doing` is a part of the message of a failure.
pub(crate) fn prepare<B>(
    mut request: Request<B>,
    options: StreamOptions,
    executor: Box<dyn Executor>,
    doing: &'static str,
) -> Prepared {
    let agreed = http_upgrade::agree(request.headers(), &OVER_WEBSOCKET, &OVER_SPDY);
    let (agreed, over_websocket) = match agreed {
        Ok(agreed) => agreed,
        Err(response) => return Prepared::refused(*response),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let protocol = agreed.protocol;
    let session = async move {
        let Some(io) = upgraded(upgrade).await else {
            return;
        };
        let session = if over_websocket {
            Some(over_a_websocket(io, protocol, options).await)
        } else {
            over_a_spdy_connection(io, protocol, options).await
        };
        if let Some(session) = session {
            session.run(executor, doing).await;
        }
    };
    Prepared {
        response: agreed.response,
        session: Some(session.boxed()),
    }
}

/// Waits until the connection is ours.
pub(crate) async fn upgraded(upgrade: OnUpgrade) -> Option<TokioIo<hyper::upgrade::Upgraded>> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!("a streaming connection was not upgraded: {error}");
            None
        }
    }
}

/// Where the sizes of the terminal come from and where they go.
type SizeSource = (Input, watch::Sender<Option<TerminalSize>>);

/// A client that is connected and has its streams.
struct Session {
    streams: Streams,
    status: Output,
    form: Form,
    resize: Option<SizeSource>,
    gone: CancellationToken,
    finish: BoxFuture<'static, ()>,
}

impl Session {
    async fn run(self, executor: Box<dyn Executor>, doing: &str) {
        let Session {
            streams,
            mut status,
            form,
            resize,
            gone,
            finish,
        } = self;
        let outcome: Result<i32, Error> = tokio::select! {
            outcome = executor.run(streams) => outcome,
            () = gone.cancelled() => return,
            never = pass_sizes_on(resize) => match never {},
        };
        if let Err(error) = &outcome {
            tracing::warn!("error {doing}: {error}");
        }
        // A client that is gone by now misses nothing.
        let _ = status.write_all(&render(&outcome, doing, form)).await;
        let _ = status.shutdown().await;
        drop(status);
        finish.await;
    }
}

fn terminal() -> (watch::Sender<Option<TerminalSize>>, Resizes) {
    let (sender, receiver) = watch::channel(None);
    (sender, Resizes(receiver))
}

/// Reads sizes, JSON objects one after another, as long as there are some.
async fn pass_sizes_on(resize: Option<SizeSource>) -> std::convert::Infallible {
    if let Some((mut from, to)) = resize {
        let mut text = Vec::new();
        // Nothing that a terminal sends is so long.
        while text.len() < 1024 && from.read_buf(&mut text).await.is_ok_and(|got| got > 0) {
            let mut sizes = serde_json::Deserializer::from_slice(&text).into_iter();
            let mut latest = None;
            while let Some(Ok(size)) = sizes.next() {
                latest = Some(size);
            }
            let done = sizes.byte_offset();
            text.drain(..done);
            if latest.is_some() {
                to.send_replace(latest);
            }
        }
    }
    std::future::pending().await
}

async fn over_a_websocket<I>(io: I, protocol: &str, options: StreamOptions) -> Session
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let coding = websocket::Coding {
        base64: [V4_BASE64, V1_BASE64].contains(&protocol),
        close_signal: protocol == V5,
    };
    let form = if [V5, V4, V4_BASE64].contains(&protocol) {
        Form::Json
    } else {
        Form::Text
    };
    let socket = websocket::accept(io).await;
    let readable = [options.stdin, false, false, false, true];
    let (channels, readers) = websocket::Channels::start(socket, coding, &readable);
    // The client learns that it is connected from an empty message.
    channels.announce(
        if options.stdout {
            1
        } else if options.stderr {
            2
        } else {
            3
        },
        &[],
    );
    let output = |wanted: bool, channel| -> Option<Output> {
        wanted.then(|| Box::new(channels.writer(channel)) as Output)
    };
    let (sizes, resize) = terminal();
    let mut readers = readers.into_iter();
    let stdin = readers.next().flatten().map(|reader| Box::new(reader) as _);
    let from = readers
        .next_back()
        .flatten()
        .map(|reader| (Box::new(reader) as _, sizes));
    Session {
        streams: Streams {
            stdin,
            stdout: output(options.stdout, 1),
            stderr: output(options.stderr && !options.tty, 2),
            resize,
        },
        status: Box::new(channels.writer(3)),
        form,
        resize: from,
        gone: channels.gone(),
        finish: channels.finish().boxed(),
    }
}

/// `None` when the client does not open its streams.
async fn over_a_spdy_connection<I>(io: I, protocol: &str, options: StreamOptions) -> Option<Session>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, mut opened) = spdy::Connection::server(io);
    let resizes = options.tty && [V4, V3].contains(&protocol);
    let wanted = [options.stdin, options.stdout, options.stderr, resizes];
    let mut missing = 1 + wanted.iter().filter(|&&wanted| wanted).count();
    let (mut stdin, mut stdout, mut stderr, mut status, mut size) = (None, None, None, None, None);
    let all = async {
        while missing > 0 {
            let Some(stream) = opened.recv().await else {
                return false;
            };
            let place = match stream.headers.get("streamtype") {
                Some("error") => &mut status,
                Some("stdin") => &mut stdin,
                Some("stdout") => &mut stdout,
                Some("stderr") => &mut stderr,
                Some("resize") => &mut size,
                _ => {
                    stream.reject();
                    continue;
                }
            };
            if place.is_some() {
                stream.reject();
                continue;
            }
            stream.accept();
            *place = Some(stream);
            missing -= 1;
        }
        true
    };
    if !tokio::time::timeout(STREAM_CREATION, all)
        .await
        .unwrap_or(false)
    {
        tracing::debug!("timed out waiting for client to create streams");
        return None;
    }
    let output = |stream: Option<spdy::Stream>| -> Option<Output> {
        stream.map(|stream| Box::new(stream.writer) as Output)
    };
    let (sizes, resize) = terminal();
    Some(Session {
        // The streams that the client only sends into stay open in our direction until the end,
        // as the clients expect it.
        streams: Streams {
            stdin: stdin
                .filter(|_| options.stdin)
                .map(|stream| Box::new(stream) as _),
            stdout: output(stdout.filter(|_| options.stdout)),
            stderr: output(stderr.filter(|_| options.stderr)),
            resize,
        },
        status: output(status)?,
        form: if protocol == V4 {
            Form::Json
        } else {
            Form::Text
        },
        resize: size.map(|stream| (Box::new(stream) as _, sizes)),
        gone: connection.gone(),
        finish: connection.finish().boxed(),
    })
}
