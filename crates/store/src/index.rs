//! The keys of a store: one is found by its hash, many are walked in order.
//!
//! Contract: a map that knows nothing of revisions. Entries lie in slots of fixed blocks and never
//! move; the two ways to them hold slot numbers. Nothing grows by copying all there is: blocks are
//! added, and each of the many small tables of hashes grows for itself, so that no insertion stops
//! a writer for longer than another one.
//!
//! A point read costs a hash (with a secret of this process: names come from users), one look into
//! a table and one into a slot, where the ordered map alone would compare some twenty keys. In a store
//! that no cache of a processor holds, what counts is how many places in memory are looked at one after the other: so a
//! table is nothing but points side by side, and a slot has its key within itself, next to the value.

mod points;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use bytes::Bytes;

use points::Points;

/// Entries of one block.
const BLOCK: usize = 1024;
/// Tables of hashes.
const TABLES: usize = 256;
/// Keys up to this length stand in their slots; with it a slot of a key with one version is two lines of a cache.
const SHORT: usize = 62;

/// A key, to be compared with another one.
#[derive(Debug)]
enum Key {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Bytes),
}

impl Key {
    fn new(key: &Bytes) -> Key {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..key.len()) {
            Some(start) => {
                start.copy_from_slice(key);
                let len = key.len() as u8;
                Key::Short { len, bytes }
            }
            None => Key::Long(key.clone()),
        }
    }

    fn is(&self, key: &[u8]) -> bool {
        match self {
            Key::Short { len, bytes } => &bytes[..usize::from(*len)] == key,
            Key::Long(own) => own == key,
        }
    }
}

/// An entry, at the beginning of a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<V> {
    key: Key,
    value: V,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Index<V> {
    blocks: Vec<Vec<Option<Slot<V>>>>,
    /// Slots that are free again.
    free: Vec<u32>,
    points: Vec<Points>,
    order: BTreeMap<Bytes, u32>,
    secret: RandomState,
}

impl<V> Index<V> {
    pub(crate) fn new() -> Index<V> {
        Index {
            blocks: Vec::new(),
            free: Vec::new(),
            points: (0..TABLES).map(|_| Points::default()).collect(),
            order: BTreeMap::new(),
            secret: RandomState::new(),
        }
    }

    /// Of entries in the order of their keys, each key once. Much cheaper than one by one, and
    /// denser.
    pub(crate) fn sorted<E>(
        entries: impl IntoIterator<Item = Result<(Bytes, V), E>>,
    ) -> Result<Index<V>, E> {
        let mut index = Index::new();
        let mut order = Vec::new();
        for entry in entries {
            let (key, value) = entry?;
            let slot = index.place(&key, value);
            order.push((key, slot));
        }
        index.order = order.into_iter().collect();
        Ok(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The number of the table, and the hash within it.
    fn hash(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.secret.hash_one(key);
        ((hash >> 32) as usize % TABLES, hash as u32)
    }

    fn find(&self, key: &[u8]) -> Option<(u32, &Slot<V>)> {
        let (table, hash) = self.hash(key);
        self.points[table].find(hash, |number| {
            let slot = self.slot(number);
            slot.key.is(key).then_some((number, slot))
        })
    }

    fn slot(&self, number: u32) -> &Slot<V> {
        let number = number as usize;
        let slot = self.blocks[number / BLOCK][number % BLOCK].as_ref();
        slot.expect("only slots in use are pointed to")
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        Some(&self.find(key)?.1.value)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let number = self.find(key)?.0 as usize;
        let slot = self.blocks[number / BLOCK][number % BLOCK].as_mut();
        slot.map(|slot| &mut slot.value)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: Bytes, value: V) {
        let slot = self.place(&key, value);
        let before = self.order.insert(key, slot);
        assert!(before.is_none(), "a key is added once");
    }

    /// All of an insertion but the order.
    fn place(&mut self, key: &Bytes, value: V) -> u32 {
        let (table, hash) = self.hash(key);
        let number = self.free.pop().unwrap_or_else(|| self.new_slot());
        let slot = Slot {
            key: Key::new(key),
            value,
        };
        self.blocks[number as usize / BLOCK][number as usize % BLOCK] = Some(slot);
        self.points[table].insert(hash, number);
        number
    }

    fn new_slot(&mut self) -> u32 {
        if self.blocks.last().is_none_or(|last| last.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let last = self.blocks.last_mut().expect("pushed above if need be");
        last.push(None);
        u32::try_from(before + last.len() - 1).expect("a store has fewer than 2^32 keys")
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        let Some(slot) = self.order.remove(key) else {
            return;
        };
        let (table, hash) = self.hash(key);
        self.points[table].remove(hash, slot);
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = None;
        self.free.push(slot);
    }

    /// The keys from one on, in order.
    pub(crate) fn range(
        &self,
        from: &[u8],
        end: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&Bytes, &V)> {
        let slots = self.order.range::<[u8], _>((Bound::Included(from), end));
        slots.map(|(key, number)| (key, &self.slot(*number).value))
    }

    /// All entries, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        self.range(&[], Bound::Unbounded)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn same(index: &Index<u8>, model: &BTreeMap<Vec<u8>, u8>) {
        let all: Vec<_> = index
            .range(&[], Bound::Unbounded)
            .map(|(key, value)| (key.to_vec(), *value))
            .collect();
        assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(index.len(), model.len());
        let any: BTreeMap<_, _> = index.iter().map(|(k, v)| (k.to_vec(), *v)).collect();
        assert_eq!(&any, model);
    }

    /// Short enough for a slot, or not.
    fn key_of(number: u16) -> Vec<u8> {
        let filler = usize::from(number % 3) * 40;
        [&number.to_be_bytes()[..], &vec![7; filler]].concat()
    }

    #[test]
    fn a_slot_is_two_lines() {
        let slot = std::mem::size_of::<Option<Slot<crate::history::Versions>>>();
        assert_eq!(slot, 128);
    }

    proptest! {
        /// It is a map, however keys come and go.
        #[test]
        fn is_a_map(steps in prop::collection::vec((0u16..1500, any::<Option<u8>>()), 0..3000)) {
            let mut index = Index::new();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let key = key_of(key);
                prop_assert_eq!(index.get(&key).copied(), model.get(&key[..]).copied());
                match (value, index.get_mut(&key)) {
                    (Some(value), Some(there)) => *there = value,
                    (Some(value), None) => index.insert(Bytes::copy_from_slice(&key), value),
                    (None, _) => index.remove(&key),
                }
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            same(&index, &model);
        }

        #[test]
        fn built_at_once_is_the_same(model: BTreeMap<Vec<u8>, u8>) {
            let entries = model.iter().map(|(k, v)| Ok::<_, Infallible>((k.clone().into(), *v)));
            let index = Index::sorted(entries).unwrap();
            same(&index, &model);
            for (key, value) in &model {
                prop_assert_eq!(index.get(key), Some(value));
            }
        }
    }
}
