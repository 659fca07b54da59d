//! Requests without a pause, to all nodes in turn, each on a connection of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};

/// Clients side by side.
const CLIENTS: usize = 4;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has come of it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

/// Clients that go on until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Counted>>,
}

impl Load {
    pub(crate) fn start(nodes: Vec<String>, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let (stop, nodes) = (stop.clone(), nodes.clone());
            std::thread::spawn(move || {
                let mut counted = Counted::default();
                for node in nodes.iter().cycle().skip(number) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match request(node, port) {
                        Ok(()) => counted.answered += 1,
                        Err(error) => {
                            counted.failed += 1;
                            let why = || format!("{node}: {error:#}");
                            counted.first_failure.get_or_insert_with(why);
                        }
                    }
                }
                counted
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients }
    }

    pub(crate) fn stop(self) -> Counted {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Counted::default();
        for client in self.clients {
            let counted = match client.join() {
                Ok(counted) => counted,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            all.answered += counted.answered;
            all.failed += counted.failed;
            all.first_failure = all.first_failure.or(counted.first_failure);
        }
        all
    }
}

fn request(node: &str, port: u16) -> anyhow::Result<()> {
    let address = format!("{node}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read")?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!(
            "the answer is {:?}",
            answer.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}
