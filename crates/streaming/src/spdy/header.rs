//! Header blocks: names and values behind zlib with a dictionary that both sides know.
//!
//! The compressor's state lasts as long as the connection, one for each direction.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// SPDY/3's dictionary (draft-mbelshe-httpbis-spdy-00, 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// A block may be so large when it is unpacked.
const MAX_BLOCK: usize = 64 << 10;

/// Names, in lower case, and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self
            .0
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .next()
            .map(|(_, value)| value.split('\0').next().unwrap_or(value))
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Packs the blocks of one direction.
pub(crate) struct Packer {
    zlib: Compress,
    begun: bool,
}

impl Packer {
    pub(crate) fn new() -> Packer {
        Packer {
            zlib: Compress::new(Compression::default(), true),
            begun: false,
        }
    }

    pub(crate) fn pack(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        if !self.begun {
            self.zlib
                .set_dictionary(DICTIONARY)
                .map_err(io::Error::other)?;
            self.begun = true;
        }
        let mut plain = Vec::new();
        plain.extend_from_slice(&(headers.0.len() as u32).to_be_bytes());
        for (name, value) in &headers.0 {
            for text in [&name.to_ascii_lowercase(), value] {
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let before = self.zlib.total_in();
        loop {
            let done = (self.zlib.total_in() - before) as usize;
            self.zlib
                .compress_vec(&plain[done..], &mut packed, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            if packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(64);
        }
    }
}

/// Unpacks the blocks of one direction.
pub(crate) struct Unpacker {
    zlib: Decompress,
}

impl Unpacker {
    pub(crate) fn new() -> Unpacker {
        Unpacker {
            zlib: Decompress::new(true),
        }
    }

    pub(crate) fn unpack(&mut self, packed: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        let mut at = 0;
        loop {
            let (before_in, before_out) = (self.zlib.total_in(), self.zlib.total_out());
            let result = self
                .zlib
                .decompress_vec(&packed[at..], &mut plain, FlushDecompress::Sync);
            at += (self.zlib.total_in() - before_in) as usize;
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| damaged("another dictionary is needed"))?;
                    continue;
                }
                Err(_) => return Err(damaged("a header block is not sound")),
                Ok(Status::StreamEnd) => return Err(damaged("the header stream has ended")),
                Ok(_) => {}
            }
            if plain.len() > MAX_BLOCK {
                return Err(damaged("a header block is too large"));
            }
            let full = plain.len() == plain.capacity();
            let stuck = self.zlib.total_in() == before_in && self.zlib.total_out() == before_out;
            if full {
                plain.reserve(plain.len());
            } else if at == packed.len() {
                return parse(&plain);
            } else if stuck {
                return Err(damaged("a header block is not sound"));
            }
        }
    }
}

fn parse(plain: &[u8]) -> io::Result<Headers> {
    let short = || damaged("a header block is cut off");
    fn number(rest: &mut &[u8]) -> Option<usize> {
        let (number, left) = rest.split_first_chunk::<4>()?;
        *rest = left;
        Some(u32::from_be_bytes(*number) as usize)
    }
    fn text(rest: &mut &[u8]) -> Option<String> {
        let len = number(rest)?;
        let (text, left) = rest.split_at_checked(len)?;
        *rest = left;
        Some(String::from_utf8_lossy(text).into_owned())
    }
    let mut rest = plain;
    let count = number(&mut rest).ok_or_else(short)?;
    let mut headers = Headers::default();
    for _ in 0..count {
        let name = text(&mut rest).ok_or_else(short)?;
        headers.0.push((name, text(&mut rest).ok_or_else(short)?));
    }
    Ok(headers)
}
