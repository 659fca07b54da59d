//! Sends the messages of one transaction as one packet, however long it is.
//!
//! The kernel carries a transaction out while it takes the packet, so when `send` returns its complaints, if there are any,
//! are waiting to be read. Nothing is acknowledged: thousands of acknowledgements would not fit into the socket.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send as send_to, setsockopt,
    socket, sockopt,
};

/// Length of a message's header; its length stands at 0, its type at 4, its flags at 6, its number at 8.
const HEADER: usize = 16;
/// `NLM_F_ACK`.
const ACKNOWLEDGE: u16 = 4;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// What the kernel needs of the send buffer beside the packet.
const SPARE: usize = 4096;

/// The first complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Number of the message.
    pub(crate) sequence: u32,
    /// What is wrong with it.
    pub(crate) errno: i32,
}

/// Sends the messages; `None` when the kernel has carried them out.
pub(crate) fn send(messages: &[u8]) -> std::io::Result<Option<Refused>> {
    let mut packet = messages.to_vec();
    ask_for_no_acknowledgement(&mut packet);
    let netfilter = Some(SockProtocol::NetlinkNetFilter);
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, netfilter)?;
    // The limit for everybody would hold some three hundred services.
    setsockopt(&socket, sockopt::SndBufForce, &(packet.len() + SPARE))?;
    send_to(socket.as_raw_fd(), &packet, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut first = None;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => first = first.or(complaint(&buffer[..len])),
            Err(Errno::EAGAIN) => return Ok(first),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where the messages of a packet begin, and where they end.
fn messages(packet: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(len) = packet.get(at..at + 4) {
        let len = u32::from_ne_bytes([len[0], len[1], len[2], len[3]]);
        let len = usize::try_from(len).unwrap_or(0);
        if len < HEADER || at + len > packet.len() {
            break;
        }
        found.push((at, at + len));
        at += len.next_multiple_of(4);
    }
    found
}

fn ask_for_no_acknowledgement(packet: &mut [u8]) {
    for (at, _) in messages(packet) {
        let flags = u16::from_ne_bytes([packet[at + 6], packet[at + 7]]) & !ACKNOWLEDGE;
        packet[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// The first error among these replies.
fn complaint(replies: &[u8]) -> Option<Refused> {
    let number = |at: usize| {
        let bytes = replies.get(at..at + 4)?;
        Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    messages(replies).into_iter().find_map(|(at, end)| {
        let kind = u16::from_ne_bytes([replies[at + 4], replies[at + 5]]);
        let errno = number(at + HEADER).filter(|_| kind == ERROR && at + HEADER + 4 <= end)?;
        let errno = errno.cast_signed().wrapping_neg();
        (errno != 0).then_some(Refused {
            sequence: number(at + 8)?,
            errno,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).expect("short");
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn acknowledgements_are_asked_for_no_more() {
        let mut packet = [message(1, 5, 1, b"abcde"), message(2, 0x405, 2, b"")].concat();
        ask_for_no_acknowledgement(&mut packet);
        let expected = [message(1, 1, 1, b"abcde"), message(2, 0x401, 2, b"")].concat();
        assert_eq!(packet, expected);
    }

    #[test]
    fn the_first_complaint_counts() {
        let error = |errno: i32| errno.to_ne_bytes();
        let replies = [
            message(ERROR, 0, 7, &error(0)),
            message(ERROR, 0, 8, &error(-22)),
            message(ERROR, 0, 9, &error(-17)),
        ];
        let expected = Refused {
            sequence: 8,
            errno: 22,
        };
        assert_eq!(complaint(&replies.concat()), Some(expected));
        assert_eq!(complaint(&replies[0]), None);
        assert_eq!(complaint(&[1, 2, 3]), None);
    }
}
