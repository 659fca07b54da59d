//! The file format of etcd's own database, so that a snapshot can be restored into a real etcd.
//!
//! A bbolt file is pages of 4 KiB: two that describe the file, a list of free pages, and trees of
//! branches and leaves, one a bucket. This writes one from keys that come in order, bottom up,
//! and reads none. Layout after the documentation and the files themselves.

const PAGE: usize = 4096;
const PAGE_HEAD: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
const FREE_LIST: u16 = 16;
const BUCKET: u32 = 1;
const MAGIC: u32 = 0xed0c_daed;

/// A file that is being made.
pub(crate) struct Bolt {
    pages: Vec<u8>,
    /// Name and root page, in the order of their names.
    buckets: Vec<(Vec<u8>, u64)>,
}

/// Elements of a page that is being filled.
#[derive(Default)]
struct Filling {
    /// Flags, key, value (leaf), page (branch).
    elements: Vec<(u32, Vec<u8>, Vec<u8>, u64)>,
    bytes: usize,
}

impl Bolt {
    pub(crate) fn new() -> Bolt {
        // Pages 0 and 1 describe the file, 2 is the list of free pages.
        Bolt {
            pages: vec![0; 3 * PAGE],
            buckets: Vec::new(),
        }
    }

    /// Adds a bucket with these entries, which come in order; so do the buckets.
    pub(crate) fn bucket(
        &mut self,
        name: &[u8],
        entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) {
        let entries = entries.into_iter().map(|(key, value)| (0, key, value));
        let root = self.tree(entries);
        self.buckets.push((name.to_vec(), root));
    }

    /// The whole file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let buckets = std::mem::take(&mut self.buckets);
        let entries = buckets.into_iter().map(|(name, root)| {
            let mut value = root.to_le_bytes().to_vec();
            value.extend_from_slice(&0u64.to_le_bytes());
            (BUCKET, name, value)
        });
        let root = self.tree(entries);
        let all = (self.pages.len() / PAGE) as u64;
        head(&mut self.pages[2 * PAGE..], 2, FREE_LIST, 0, 0);
        for number in 0..2u64 {
            let page = &mut self.pages[number as usize * PAGE..][..PAGE];
            head(page, number, META, 0, 0);
            let mut meta = Vec::with_capacity(64);
            meta.extend_from_slice(&MAGIC.to_le_bytes());
            meta.extend_from_slice(&2u32.to_le_bytes());
            meta.extend_from_slice(&(PAGE as u32).to_le_bytes());
            meta.extend_from_slice(&0u32.to_le_bytes());
            // The root bucket, the free list, the end of the file, the transaction.
            for word in [root, 0, 2, all, number] {
                meta.extend_from_slice(&word.to_le_bytes());
            }
            let sum = fnv(&meta);
            meta.extend_from_slice(&sum.to_le_bytes());
            page[PAGE_HEAD..PAGE_HEAD + meta.len()].copy_from_slice(&meta);
        }
        self.pages
    }

    /// Writes a tree of entries and returns its root.
    fn tree(&mut self, entries: impl Iterator<Item = (u32, Vec<u8>, Vec<u8>)>) -> u64 {
        let mut level = Vec::new();
        let mut filling = Filling::default();
        for (flags, key, value) in entries {
            let size = ELEMENT + key.len() + value.len();
            if !filling.elements.is_empty() && PAGE_HEAD + filling.bytes + size > PAGE {
                level.push(self.put(LEAF, std::mem::take(&mut filling)));
            }
            filling.bytes += size;
            filling.elements.push((flags, key, value, 0));
        }
        if !filling.elements.is_empty() || level.is_empty() {
            level.push(self.put(LEAF, filling));
        }
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut filling = Filling::default();
            for (key, page) in level {
                let size = ELEMENT + key.len();
                // A branch has two below it at least.
                if filling.elements.len() >= 2 && PAGE_HEAD + filling.bytes + size > PAGE {
                    above.push(self.put(BRANCH, std::mem::take(&mut filling)));
                }
                filling.bytes += size;
                filling.elements.push((0, key, Vec::new(), page));
            }
            above.push(self.put(BRANCH, filling));
            level = above;
        }
        level.first().map_or(0, |(_, page)| *page)
    }

    /// Writes a page (and those that it overflows into); its first key and number.
    fn put(&mut self, kind: u16, filling: Filling) -> (Vec<u8>, u64) {
        let number = (self.pages.len() / PAGE) as u64;
        let len = (PAGE_HEAD + filling.bytes).next_multiple_of(PAGE);
        let mut page = vec![0; len];
        let overflow = (len / PAGE - 1) as u32;
        head(
            &mut page,
            number,
            kind,
            filling.elements.len() as u16,
            overflow,
        );
        let first = filling.elements.first();
        let first = first.map(|(_, key, ..)| key.clone()).unwrap_or_default();
        let mut data = PAGE_HEAD + filling.elements.len() * ELEMENT;
        for (at, (flags, key, value, below)) in filling.elements.into_iter().enumerate() {
            let at = PAGE_HEAD + at * ELEMENT;
            let position = (data - at) as u32;
            let (key_len, value_len) = (key.len() as u32, value.len() as u32);
            let words = match kind {
                BRANCH => {
                    let below = below.to_le_bytes();
                    let half = |from: usize| {
                        let bytes = below[from..from + 4].try_into().expect("four bytes");
                        u32::from_le_bytes(bytes)
                    };
                    [position, key_len, half(0), half(4)]
                }
                _ => [flags, position, key_len, value_len],
            };
            for (word, into) in words.iter().zip(page[at..at + ELEMENT].chunks_mut(4)) {
                into.copy_from_slice(&word.to_le_bytes());
            }
            page[data..data + key.len()].copy_from_slice(&key);
            data += key.len();
            page[data..data + value.len()].copy_from_slice(&value);
            data += value.len();
        }
        self.pages.extend_from_slice(&page);
        (first, number)
    }
}

fn head(page: &mut [u8], number: u64, kind: u16, count: u16, overflow: u32) {
    page[..8].copy_from_slice(&number.to_le_bytes());
    page[8..10].copy_from_slice(&kind.to_le_bytes());
    page[10..12].copy_from_slice(&count.to_le_bytes());
    page[12..16].copy_from_slice(&overflow.to_le_bytes());
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
