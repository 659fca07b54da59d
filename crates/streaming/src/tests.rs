//! The protocols against clients written here: one that speaks WebSocket, one that speaks SPDY,
//! and the bytes that the Go implementation of SPDY writes.

mod client;
mod exec;
mod forward;
mod frames;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};

use crate::{
    AttachRequest, Duplex, Error, ExecRequest, PortForwardRequest, Runtime, Server, StreamOptions,
    Streams,
};

/// A runtime whose commands are a handful of words.
struct Play {
    /// What happened, for tests that wait for it.
    events: mpsc::UnboundedSender<String>,
}

/// Says when it is dropped.
struct OnDrop(mpsc::UnboundedSender<String>, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(self.1.into());
    }
}

#[async_trait]
impl Runtime for Play {
    async fn exec(&self, request: ExecRequest, mut streams: Streams) -> Result<i32, Error> {
        let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
        match words[..] {
            // Copies its input, says so on the other stream, and exits with a code.
            ["cat", code] => {
                let mut stdout = streams.stdout.take().unwrap();
                tokio::io::copy(&mut streams.stdin.take().unwrap(), &mut stdout).await?;
                if let Some(stderr) = &mut streams.stderr {
                    stderr.write_all(b"end of input").await?;
                }
                Ok(code.parse()?)
            }
            ["size"] => {
                let mut stdout = streams.stdout.take().unwrap();
                for _ in 0..2 {
                    let size = streams.resize.next().await.ok_or("no more sizes")?;
                    let text = format!("{}x{};", size.width, size.height);
                    stdout.write_all(text.as_bytes()).await?;
                }
                Ok(0)
            }
            ["flood", bytes] => {
                let mut stdout = streams.stdout.take().unwrap();
                let words: Vec<_> = (0..bytes.parse::<u32>()? / 4).collect();
                for block in words.chunks(50_000) {
                    let block: Vec<_> = block.iter().flat_map(|word| word.to_be_bytes()).collect();
                    stdout.write_all(&block).await?;
                }
                Ok(0)
            }
            ["wait"] => {
                let _on_drop = OnDrop(self.events.clone(), "dropped");
                self.events.send("waiting".into())?;
                std::future::pending().await
            }
            ["fail"] => Err("no such thing".into()),
            _ => Err("unknown command".into()),
        }
    }

    async fn attach(&self, request: AttachRequest, mut streams: Streams) -> Result<(), Error> {
        if request.container_id == "gone" {
            return Err("container is not running".into());
        }
        let mut stdout = streams.stdout.take().unwrap();
        stdout.write_all(b"attached").await?;
        Ok(())
    }

    async fn connect(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error> {
        assert_eq!(sandbox_id, "sandbox");
        if port != 80 {
            return Err(format!("failed to connect to localhost:{port}").into());
        }
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let events = self.events.clone();
        // Answers in capitals once it has heard everything.
        tokio::spawn(async move {
            let mut heard = String::new();
            if theirs.read_to_string(&mut heard).await.is_ok() {
                let _ = theirs.write_all(heard.to_uppercase().as_bytes()).await;
            }
            drop(theirs);
            let _ = events.send("connection over".into());
        });
        Ok(Box::new(ours))
    }
}

struct Harness {
    server: Server,
    events: Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Harness {
    async fn new() -> Harness {
        let (events, received) = mpsc::unbounded_channel();
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, Arc::new(Play { events }))
            .await
            .unwrap();
        Harness {
            server,
            events: Mutex::new(received),
        }
    }

    fn exec(&self, command: &str, options: StreamOptions) -> String {
        let command = command.split(' ').map(str::to_owned).collect();
        let request = ExecRequest {
            container_id: "c".into(),
            command,
            options,
        };
        self.server.exec_url(request).unwrap()
    }

    fn forward(&self, ports: &[u16]) -> String {
        let request = PortForwardRequest {
            sandbox_id: "sandbox".into(),
            ports: ports.to_vec(),
        };
        self.server.portforward_url(request).unwrap()
    }

    async fn event(&self) -> String {
        self.events.lock().await.recv().await.unwrap()
    }
}

fn all() -> StreamOptions {
    StreamOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

fn terminal() -> StreamOptions {
    StreamOptions {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    }
}
