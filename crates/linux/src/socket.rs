//! Unix sockets that keep message boundaries and carry descriptors, bound to a path of any length.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::path::open_dir;
use crate::{Context, Error, Result};

/// The most descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 8;

/// The longest message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A message with its descriptors.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The descriptors that came with them.
    pub descriptors: Vec<OwnedFd>,
}

/// Listens for messages on a socket file; an old file of that name is replaced. Both ends are
/// non-blocking.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let what = || format!("listen on {}", path.display());
    let (dir, name) = split(path)?;
    let dir = open_dir(dir)?;
    match rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::new(what(), error)),
    }
    let socket = new_socket().context(what)?;
    rustix::net::bind(&socket, &address(&dir, name).context(what)?).context(what)?;
    rustix::net::listen(&socket, 64).context(what)?;
    Ok(socket)
}

/// Connects to a socket made by [`listen`].
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let what = || format!("connect to {}", path.display());
    let (dir, name) = split(path)?;
    let dir = open_dir(dir)?;
    let socket = new_socket().context(what)?;
    rustix::net::connect(&socket, &address(&dir, name).context(what)?).context(what)?;
    Ok(socket)
}

/// Takes the next waiting connection, if any.
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(Error::new("accept a connection", error)),
    }
}

/// Two connected ends, non-blocking.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .context(|| "make a socket pair")
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Error::new(
            format!("use {} as a socket", path.display()),
            Errno::INVAL,
        )),
    }
}

/// A socket's name may have 107 bytes only; through the open directory any path fits.
fn address(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// Sends one message. `WouldBlock` (as the source of the error) when the other end is slow.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::new("send descriptors", Errno::MSGSIZE));
    }
    let bytes = [IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(socket.as_fd(), &bytes, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::new("send a message", error)),
        }
    }
}

/// Receives one message; `None` at the end of the stream. `WouldBlock` when there is none yet.
pub fn receive(socket: impl AsFd) -> Result<Option<Message>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    let received = loop {
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket.as_fd(), &mut buffers, &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::new("receive a message", error)),
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(Error::new("receive a message", Errno::MSGSIZE));
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(Some(Message { bytes, descriptors }))
}
