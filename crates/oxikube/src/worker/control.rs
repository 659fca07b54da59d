//! What `oxikube` outside asks of the node inside, beyond the API: loading and listing images.
//!
//! A socket in the node's own directory, which only root may enter. One request a connection; an archive comes as an
//! open descriptor, so that it may lie anywhere on the machine. The answer is a message an item, then the end.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use images::Store;
use linux::socket;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::member::Member;

const SOCKET: &str = "control.sock";
const EAGAIN: i32 = 11;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Request {
    /// Load the archive that comes along.
    Load,
    List,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reply {
    Loaded(String),
    Image(ImageRow),
    Failed(String),
}

/// An image, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    /// Digest of its configuration.
    pub(crate) id: String,
    /// Its names with tags.
    pub(crate) names: BTreeSet<String>,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
}

/// Waits until the socket can be read or written.
pub(crate) fn wait(socket: &OwnedFd, flags: PollFlags) -> anyhow::Result<()> {
    loop {
        match poll(&mut [PollFd::new(socket, flags)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The next message; nothing at the end.
pub(crate) fn receive(socket: &OwnedFd) -> anyhow::Result<Option<socket::Message>> {
    loop {
        match socket::receive(socket) {
            Err(error) if error.errno() == EAGAIN => wait(socket, PollFlags::IN)?,
            other => return Ok(other?),
        }
    }
}

/// Sends a message.
pub(crate) fn send<T: Serialize>(
    socket: &OwnedFd,
    what: &T,
    along: Option<&OwnedFd>,
) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(what)?;
    let along: Vec<_> = along.into_iter().map(AsFd::as_fd).collect();
    loop {
        match socket::send(socket, &bytes, &along) {
            Err(error) if error.errno() == EAGAIN => wait(socket, PollFlags::OUT)?,
            other => return Ok(other?),
        }
    }
}

/// Answers requests on threads of its own, as long as the process lives: loading an image is blocking work.
pub(super) fn serve(run: &Path, images: Arc<Store>) -> anyhow::Result<()> {
    let listener = socket::listen(&run.join(SOCKET))?;
    let accept = move || -> anyhow::Result<()> {
        loop {
            wait(&listener, PollFlags::IN)?;
            let Some(connection) = socket::accept(&listener)? else {
                continue;
            };
            let images = images.clone();
            std::thread::spawn(move || {
                if let Err(error) = answer(&connection, &images) {
                    tracing::debug!(error = format!("{error:#}"), "a request was not answered");
                }
            });
        }
    };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            if let Err(error) = accept() {
                tracing::error!(error = format!("{error:#}"), "the control socket is closed");
            }
        })?;
    Ok(())
}

fn answer(connection: &OwnedFd, images: &Store) -> anyhow::Result<()> {
    let Some(message) = receive(connection)? else {
        return Ok(());
    };
    let failed = |error: &dyn std::fmt::Display| Reply::Failed(error.to_string());
    match serde_json::from_slice(&message.bytes) {
        Ok(Request::Load) => {
            let Some(archive) = message.descriptors.into_iter().next() else {
                return send(connection, &failed(&"no archive came along"), None);
            };
            match images.load(File::from(archive)) {
                Ok(names) => names
                    .into_iter()
                    .try_for_each(|n| send(connection, &Reply::Loaded(n), None)),
                Err(error) => {
                    let error = format!("{:#}", anyhow!(error));
                    send(connection, &failed(&error), None)
                }
            }
        }
        Ok(Request::List) => images.list().into_iter().try_for_each(|image| {
            let row = ImageRow {
                id: image.id,
                names: image.repo_tags,
                bytes: image.size_bytes,
            };
            send(connection, &Reply::Image(row), None)
        }),
        Err(error) => send(connection, &failed(&error), None),
    }
}

/// Asks and collects what comes back.
fn ask(run: &Path, request: &Request, along: Option<&OwnedFd>) -> anyhow::Result<Vec<Reply>> {
    let path: PathBuf = run.join(SOCKET);
    let connection =
        socket::connect(&path).with_context(|| format!("no node listens at {}", path.display()))?;
    send(&connection, request, along)?;
    let mut replies = Vec::new();
    while let Some(message) = receive(&connection)? {
        match serde_json::from_slice(&message.bytes)? {
            Reply::Failed(why) => bail!(why),
            reply => replies.push(reply),
        }
    }
    Ok(replies)
}

/// An open archive that several nodes can load side by side: each opens it for itself, from its beginning.
pub(crate) struct Archive(File);

impl Archive {
    /// `-` is the standard input; what cannot be read twice is copied first, into a file of `scratch` without a name.
    pub(crate) fn open(file: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let mut given: File = match file.to_str() {
            Some("-") => std::io::stdin().as_fd().try_clone_to_owned()?.into(),
            _ => File::open(file).with_context(|| format!("cannot open {}", file.display()))?,
        };
        if given.metadata()?.is_file() {
            return Ok(Self(given));
        }
        let path = scratch.join(format!("archive.{}", std::process::id()));
        let what = || format!("cannot write {}", path.display());
        let mut options = File::options();
        let mut copy = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(what)?;
        std::fs::remove_file(&path).with_context(what)?;
        std::io::copy(&mut given, &mut copy).with_context(what)?;
        Ok(Self(copy))
    }

    fn opened_anew(&self) -> anyhow::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(File::open(path)
            .context("cannot open the archive again")?
            .into())
    }
}

/// Loads an archive into a node and returns the names of its images.
pub(crate) fn load(node: &Member, archive: &Archive) -> anyhow::Result<Vec<String>> {
    load_at(&node.path("run"), archive)
}

/// The same for a node whose sockets are in the directory `run`.
pub(crate) fn load_at(run: &Path, archive: &Archive) -> anyhow::Result<Vec<String>> {
    let archive = archive.opened_anew()?;
    let replies = ask(run, &Request::Load, Some(&archive))?;
    let name = |reply| match reply {
        Reply::Loaded(name) => Some(name),
        _ => None,
    };
    Ok(replies.into_iter().filter_map(name).collect())
}

/// The images of the node.
pub(crate) fn list(node: &Member) -> anyhow::Result<Vec<ImageRow>> {
    list_at(&node.path("run"))
}

/// The same for a node whose sockets are in the directory `run`.
pub(crate) fn list_at(run: &Path) -> anyhow::Result<Vec<ImageRow>> {
    let replies = ask(run, &Request::List, None)?;
    let row = |reply| match reply {
        Reply::Image(row) => Some(row),
        _ => None,
    };
    Ok(replies.into_iter().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_over(
        images: &Store,
        request: &Request,
        along: Option<&OwnedFd>,
    ) -> Vec<Result<Reply, String>> {
        let (outside, inside) = socket::pair().expect("sockets");
        send(&outside, request, along).expect("sent");
        answer(&inside, images).expect("answered");
        drop(inside);
        let mut replies = Vec::new();
        while let Some(message) = receive(&outside).expect("a message") {
            replies.push(
                match serde_json::from_slice(&message.bytes).expect("a reply") {
                    Reply::Failed(why) => Err(why),
                    reply => Ok(reply),
                },
            );
        }
        replies
    }

    #[test]
    fn what_is_no_archive_is_refused_and_nothing_is_listed() {
        let dir = tempfile::tempdir().expect("a directory");
        let images = Store::open(dir.path()).expect("a store");
        let file = tempfile::tempfile().expect("a file").into();
        let refused = ask_over(&images, &Request::Load, Some(&file));
        assert!(matches!(refused.as_slice(), [Err(_)]), "{refused:?}");
        let refused = ask_over(&images, &Request::Load, None);
        assert!(matches!(refused.as_slice(), [Err(why)] if why == "no archive came along"));
        assert!(ask_over(&images, &Request::List, None).is_empty());
    }
}
