//! The socket in a data directory, by which commands reach the process that has it.
//!
//! Only the directory's owner may enter it. One request a connection; a backup's file comes along as an open descriptor,
//! so that it may lie anywhere on the machine.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use linux::socket;
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use store::Store;
use store::embedded::Engine;
use tokio::runtime::Handle;

use crate::worker::control::{receive, send, wait};

const SOCKET: &str = "control.sock";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Request {
    /// Write a backup into the file that comes along.
    Backup,
    Compact,
    Stats,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reply {
    Revision(u64),
    Stats(Stats),
    Failed(String),
}

/// What a store holds, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    /// Whether it takes writes, and if not, why.
    pub(crate) condition: String,
    /// The current revision.
    pub(crate) revision: u64,
    /// The oldest revision that can be read.
    pub(crate) compacted: u64,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// Bytes of keys and values.
    pub(crate) live_bytes: u64,
    /// Bytes of the log on disk.
    pub(crate) log_bytes: u64,
    /// Bytes of the checkpoint on disk.
    pub(crate) checkpoint_bytes: u64,
    /// Watches that are open.
    pub(crate) watches: u64,
}

/// Answers requests on threads of its own, as long as the process lives: a backup is blocking work.
pub(super) fn attend(dir: &Path, engine: Arc<Engine>) -> anyhow::Result<()> {
    let listener = socket::listen(&dir.join(SOCKET))?;
    let (runtime, dir) = (Handle::current(), dir.to_owned());
    let accept = move || -> anyhow::Result<()> {
        loop {
            wait(&listener, PollFlags::IN)?;
            let Some(connection) = socket::accept(&listener)? else {
                continue;
            };
            let (engine, runtime, dir) = (engine.clone(), runtime.clone(), dir.clone());
            std::thread::spawn(move || {
                let reply = answer(&connection, &engine, &runtime, &dir);
                let reply = reply.unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
                if let Err(error) = send(&connection, &reply, None) {
                    tracing::debug!(error = format!("{error:#}"), "a request was not answered");
                }
            });
        }
    };
    std::thread::Builder::new()
        .name("store-control".into())
        .spawn(move || {
            if let Err(error) = accept() {
                tracing::error!(error = format!("{error:#}"), "the store's socket is closed");
            }
        })?;
    Ok(())
}

fn answer(
    connection: &OwnedFd,
    engine: &Engine,
    runtime: &Handle,
    dir: &Path,
) -> anyhow::Result<Reply> {
    let message = receive(connection)?.context("no request")?;
    match serde_json::from_slice(&message.bytes)? {
        Request::Backup => {
            let file = message.descriptors.into_iter().next();
            let mut file = File::from(file.context("no file came along")?);
            let revision = engine.backup(&mut file)?;
            file.sync_all()?;
            Ok(Reply::Revision(revision))
        }
        Request::Compact => {
            runtime.block_on(engine.shrink())?;
            Ok(Reply::Revision(engine.revision()))
        }
        Request::Stats => {
            let stats = runtime.block_on(engine.stats())?;
            Ok(Reply::Stats(Stats {
                condition: engine.condition().to_string(),
                revision: stats.revision,
                compacted: stats.compacted,
                keys: stats.keys as u64,
                live_bytes: stats.live_bytes as u64,
                log_bytes: stats.log_bytes,
                checkpoint_bytes: checkpoint_bytes(dir),
                watches: stats.watches as u64,
            }))
        }
    }
}

fn checkpoint_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("checkpoint-")
        })
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Asks the process that has the directory; nothing when none has it.
fn ask(dir: &Path, request: &Request, along: Option<&OwnedFd>) -> anyhow::Result<Option<Reply>> {
    let Ok(connection) = socket::connect(&dir.join(SOCKET)) else {
        return Ok(None);
    };
    send(&connection, request, along)?;
    let message = receive(&connection)?.context("the server ended before it answered")?;
    match serde_json::from_slice(&message.bytes)? {
        Reply::Failed(why) => bail!(why),
        reply => Ok(Some(reply)),
    }
}

fn revision(reply: Option<Reply>) -> Option<u64> {
    match reply {
        Some(Reply::Revision(revision)) => Some(revision),
        _ => None,
    }
}

/// Has a backup written; nothing when no process has the directory.
pub(super) fn backup(dir: &Path, file: &OwnedFd) -> anyhow::Result<Option<u64>> {
    ask(dir, &Request::Backup, Some(file)).map(revision)
}

/// Has the files made small; nothing when no process has the directory.
pub(super) fn compact(dir: &Path) -> anyhow::Result<Option<u64>> {
    ask(dir, &Request::Compact, None).map(revision)
}

/// What the store holds; nothing when no process has the directory.
pub(super) fn stats(dir: &Path) -> anyhow::Result<Option<Stats>> {
    Ok(match ask(dir, &Request::Stats, None)? {
        Some(Reply::Stats(stats)) => Some(stats),
        _ => None,
    })
}
