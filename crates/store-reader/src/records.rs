//! Batches of format 2: records between the marks of sectors.

use crate::frames::checksum;
use crate::log::Batches;

const SECTOR: usize = 512;
const MARK: u8 = 0xa5;
const HEAD: usize = 16;

/// Records one after another.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    salt: u32,
}

impl<'a> Records<'a> {
    pub(crate) fn from(bytes: &'a [u8], at: usize, salt: u32) -> Records<'a> {
        Records { bytes, at, salt }
    }

    /// The place of each byte of a record that begins here, marks left out; and whether each mark
    /// before it is there.
    fn places(&self, at: usize) -> impl Iterator<Item = (usize, bool)> {
        (at..self.bytes.len())
            .filter(|place| place % SECTOR != 0)
            .map(move |place| {
                let sector = place - place % SECTOR;
                (place, sector < at || self.bytes[sector] == MARK)
            })
    }

    fn head(&self, at: usize) -> Option<[u8; HEAD]> {
        let mut head = [0; HEAD];
        let mut places = self.places(at);
        for byte in &mut head {
            let (place, marked) = places.next()?;
            *byte = self.bytes[place];
            marked.then_some(())?;
        }
        if !head.starts_with(b"oxrc") {
            return None;
        }
        let place = (at as u64).to_le_bytes();
        let sum = checksum(&[&self.salt.to_le_bytes(), &place, &head[..12]]);
        (head[12..] == sum.to_le_bytes()).then_some(head)
    }

    /// A whole record, and where it ends.
    fn record(&self, at: usize) -> Option<(Vec<u8>, usize)> {
        let head = self.head(at)?;
        let len = length(&head);
        let mut payload = Vec::new();
        let mut end = at;
        for (place, marked) in self.places(at).take(HEAD + len) {
            marked.then_some(())?;
            payload.push(self.bytes[place]);
            end = place + 1;
        }
        if payload.len() < HEAD + len {
            return None;
        }
        payload.drain(..HEAD);
        let sum = checksum(&[&self.salt.to_le_bytes(), &payload]);
        (head[8..12] == sum.to_le_bytes()).then_some((payload, end))
    }
}

fn length(head: &[u8; HEAD]) -> usize {
    u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize
}

impl Batches for Records<'_> {
    fn at(&self) -> usize {
        self.at
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let (payload, end) = self.record(self.at)?;
        self.at = end;
        Some(payload)
    }

    fn any_after(&self) -> bool {
        (self.at + 1..self.bytes.len()).any(|from| self.record(from).is_some())
    }

    fn may_be_unfinished(&self) -> bool {
        let wanted = HEAD + self.head(self.at).as_ref().map_or(0, length);
        let mut places = self.places(self.at).map(|(place, _)| place);
        let Some(last) = places.nth(wanted - 1) else {
            // The file ends before the record does.
            return true;
        };
        let sectors = self.at / SECTOR..=last / SECTOR;
        sectors.into_iter().any(|sector| {
            let from = self.at.max(sector * SECTOR);
            let to = self.bytes.len().min((sector + 1) * SECTOR);
            self.bytes[from..to].iter().all(|byte| *byte == 0)
        })
    }
}
