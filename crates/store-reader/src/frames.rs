//! Frames and words, bit by bit.

use crate::log::Batches;

/// Frames one after another.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    salt: u32,
}

const HEAD: usize = 12;

impl<'a> Frames<'a> {
    pub(crate) fn from(bytes: &'a [u8], at: usize, salt: u32) -> Frames<'a> {
        Frames { bytes, at, salt }
    }

    /// The next one has another salt.
    pub(crate) fn salted(&mut self, salt: u32) {
        self.salt = salt;
    }

    /// The same as [`Batches::next`] without a copy.
    pub(crate) fn next_frame(&mut self) -> Option<&'a [u8]> {
        let payload = frame(&self.bytes[self.at..], self.salt)?;
        self.at += HEAD + payload.len();
        Some(payload)
    }
}

impl Batches for Frames<'_> {
    fn at(&self) -> usize {
        self.at
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.next_frame().map(<[u8]>::to_vec)
    }

    fn any_after(&self) -> bool {
        let rest = &self.bytes[self.at..];
        (1..rest.len()).any(|from| frame(&rest[from..], self.salt).is_some())
    }

    fn may_be_unfinished(&self) -> bool {
        true
    }
}

fn frame(bytes: &[u8], salt: u32) -> Option<&[u8]> {
    let head = bytes.first_chunk::<HEAD>()?;
    let (magic, rest) = head.split_at(4);
    let (len, sum) = rest.split_at(4);
    if magic != b"oxfr" {
        return None;
    }
    let len = len.try_into().ok()?;
    let sum = u32::from_le_bytes(sum.try_into().ok()?);
    let payload = bytes.get(HEAD..)?.get(..u32::from_le_bytes(len) as usize)?;
    let parts = [&salt.to_le_bytes()[..], &len[..], payload];
    (checksum(&parts) == sum).then_some(payload)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut bit) = (byte as u32, 0);
        while bit < 8 {
            rest = (rest >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(rest & 1));
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// The CRC-32 of Ethernet and zip.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    let step = |sum: u32, byte: &u8| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize];
    !parts.iter().flat_map(|part| part.iter()).fold(!0, step)
}

/// Numbers and bytes one after another.
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl<'a> Words<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}
