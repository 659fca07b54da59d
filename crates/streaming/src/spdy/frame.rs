//! Frames to bytes and back.
//!
//! Data frames, which may be as long as 16 MiB, are read in pieces; the others are short.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::header::{Headers, Packer, Unpacker};
use crate::pipe::PIECE;

/// A control frame may be so long.
const MAX_CONTROL: usize = 64 << 10;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
/// The stream was refused before anything was done for it.
pub(crate) const RESET_REFUSED: u32 = 3;
/// The stream is no longer wanted.
pub(crate) const RESET_CANCEL: u32 = 5;

/// What goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    /// When it is read: a piece of a frame, with `fin` on the last one only.
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    /// Settings and whatever else says nothing here.
    Other {
        kind: u16,
    },
}

/// Writes the frames of one direction.
pub(crate) struct Encoder(Packer);

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder(Packer::new())
    }

    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) -> io::Result<()> {
        let flag = |fin: bool| if fin { FIN } else { 0 };
        match frame {
            Frame::SynStream {
                stream,
                headers,
                fin,
                unidirectional,
            } => {
                let mut body = words([*stream, 0]);
                // Priority and slot.
                body.extend_from_slice(&[0, 0]);
                body.extend(self.0.pack(headers)?);
                let more = if *unidirectional { UNIDIRECTIONAL } else { 0 };
                control(out, 1, flag(*fin) | more, &body);
            }
            Frame::SynReply {
                stream,
                headers,
                fin,
            } => {
                let mut body = words([*stream]);
                body.extend(self.0.pack(headers)?);
                control(out, 2, flag(*fin), &body);
            }
            Frame::Headers {
                stream,
                headers,
                fin,
            } => {
                let mut body = words([*stream]);
                body.extend(self.0.pack(headers)?);
                control(out, 8, flag(*fin), &body);
            }
            Frame::Data { stream, data, fin } => {
                out.extend_from_slice(&stream.to_be_bytes());
                flags_and_length(out, flag(*fin), data.len());
                out.extend_from_slice(data);
            }
            Frame::Reset { stream, status } => control(out, 3, 0, &words([*stream, *status])),
            Frame::Ping { id } => control(out, 6, 0, &words([*id])),
            Frame::GoAway {
                last_stream,
                status,
            } => {
                control(out, 7, 0, &words([*last_stream, *status]));
            }
            Frame::WindowUpdate { stream, delta } => {
                control(out, 9, 0, &words([*stream, *delta]));
            }
            Frame::Other { kind } => control(out, *kind, 0, &[]),
        }
        Ok(())
    }
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn flags_and_length(out: &mut Vec<u8>, flags: u8, len: usize) {
    out.extend_from_slice(&((u32::from(flags) << 24) | len as u32).to_be_bytes());
}

fn control(out: &mut Vec<u8>, kind: u16, flags: u8, body: &[u8]) {
    out.extend_from_slice(&(0x8003_0000 | u32::from(kind)).to_be_bytes());
    flags_and_length(out, flags, body.len());
    out.extend_from_slice(body);
}

/// The rest of a data frame.
struct Pending {
    stream: u32,
    left: usize,
    fin: bool,
}

/// Reads the frames of one direction.
pub(crate) struct Decoder<R> {
    from: R,
    unpacker: Unpacker,
    pending: Option<Pending>,
}

impl<R: AsyncRead + Unpin> Decoder<R> {
    pub(crate) fn new(from: R) -> Decoder<R> {
        Decoder {
            from,
            unpacker: Unpacker::new(),
            pending: None,
        }
    }

    /// The next frame; `None` when the peer has ended the connection between two.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        if let Some(pending) = self.pending.take() {
            return self.data(pending).await.map(Some);
        }
        let mut head = [0; 8];
        if self.from.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut head[1..]).await?;
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let left = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if first & 0x8000_0000 == 0 {
            let fin = flags & FIN != 0;
            return self
                .data(Pending {
                    stream: first,
                    left,
                    fin,
                })
                .await
                .map(Some);
        }
        if first >> 16 != 0x8003 {
            return Err(damaged("not a frame of SPDY/3"));
        }
        if left > MAX_CONTROL {
            return Err(damaged("a control frame is too long"));
        }
        let mut body = vec![0; left];
        self.from.read_exact(&mut body).await?;
        self.control(first as u16, flags, &body).map(Some)
    }

    async fn data(&mut self, pending: Pending) -> io::Result<Frame> {
        let Pending { stream, left, fin } = pending;
        let mut data = vec![0; left.min(PIECE)];
        // What is there is passed on at once; a frame may be longer than what is on its way.
        let got = if left == 0 {
            0
        } else {
            self.from.read(&mut data).await?
        };
        if got == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        data.truncate(got);
        let last = got == left;
        if !last {
            self.pending = Some(Pending {
                stream,
                left: left - got,
                fin,
            });
        }
        Ok(Frame::Data {
            stream,
            data: data.into(),
            fin: fin && last,
        })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<Frame> {
        let word = |at: usize| {
            let bytes = body
                .get(at..at + 4)
                .ok_or_else(|| damaged("a frame is cut off"))?;
            Ok::<u32, io::Error>(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let id = |at: usize| Ok::<u32, io::Error>(word(at)? & 0x7fff_ffff);
        let fin = flags & FIN != 0;
        Ok(match kind {
            1 => Frame::SynStream {
                stream: id(0)?,
                headers: self.headers(body, 10)?,
                fin,
                unidirectional: flags & UNIDIRECTIONAL != 0,
            },
            2 => Frame::SynReply {
                stream: id(0)?,
                headers: self.headers(body, 4)?,
                fin,
            },
            3 => Frame::Reset {
                stream: id(0)?,
                status: word(4)?,
            },
            6 => Frame::Ping { id: word(0)? },
            7 => Frame::GoAway {
                last_stream: id(0)?,
                status: word(4)?,
            },
            8 => Frame::Headers {
                stream: id(0)?,
                headers: self.headers(body, 4)?,
                fin,
            },
            9 => Frame::WindowUpdate {
                stream: id(0)?,
                delta: id(4)?,
            },
            kind => Frame::Other { kind },
        })
    }

    fn headers(&mut self, body: &[u8], at: usize) -> io::Result<Headers> {
        self.unpacker.unpack(
            body.get(at..)
                .ok_or_else(|| damaged("a frame is cut off"))?,
        )
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
