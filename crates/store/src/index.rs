//! The keys of a store: one is found by its hash, many are walked in order.
//!
//! Contract: a map that knows nothing of revisions. Entries lie in slots of fixed blocks and never
//! move; the two ways to them hold slot numbers. Nothing grows by copying all there is: blocks are
//! added, and each of the many small tables of hashes grows for itself, so that no insertion stops
//! a writer for longer than another one.
//!
//! A point read costs a hash (with a secret of this process: names come from users), one look into
//! a table and one into a slot, where the ordered map alone would compare some twenty keys.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use bytes::Bytes;
use hashbrown::HashTable;

/// Entries of one block.
const BLOCK: usize = 1024;
/// Tables of hashes.
const TABLES: usize = 256;

/// Where an entry is, with the hash of its key, so that a table grows without looking at keys.
#[derive(Clone, Copy, Debug)]
struct Point {
    hash: u32,
    slot: u32,
}

/// What a table of hashes wants: all of its 64 bits are made of the 32 that a point keeps.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Index<V> {
    blocks: Vec<Vec<Option<(Bytes, V)>>>,
    /// Slots that are free again.
    free: Vec<u32>,
    points: Vec<HashTable<Point>>,
    order: BTreeMap<Bytes, u32>,
    secret: RandomState,
}

impl<V> Index<V> {
    pub(crate) fn new() -> Index<V> {
        Index {
            blocks: Vec::new(),
            free: Vec::new(),
            points: (0..TABLES).map(|_| HashTable::new()).collect(),
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
            order.push((key.clone(), index.place(key, value)));
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

    fn slot(&self, key: &[u8]) -> Option<u32> {
        let (table, hash) = self.hash(key);
        let is_it = |point: &Point| point.hash == hash && self.entry(point.slot).0 == key;
        Some(self.points[table].find(spread(hash), is_it)?.slot)
    }

    fn entry(&self, slot: u32) -> &(Bytes, V) {
        let slot = slot as usize;
        let entry = self.blocks[slot / BLOCK][slot % BLOCK].as_ref();
        entry.expect("only slots in use are pointed to")
    }

    /// The key as it is kept, and its value.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &V)> {
        let (key, value) = self.entry(self.slot(key)?);
        Some((key, value))
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let slot = self.slot(key)? as usize;
        let entry = self.blocks[slot / BLOCK][slot % BLOCK].as_mut();
        entry.map(|(_, value)| value)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: Bytes, value: V) {
        let slot = self.place(key.clone(), value);
        let before = self.order.insert(key, slot);
        assert!(before.is_none(), "a key is added once");
    }

    /// All of an insertion but the order.
    fn place(&mut self, key: Bytes, value: V) -> u32 {
        let (table, hash) = self.hash(&key);
        let slot = self.free.pop().unwrap_or_else(|| self.new_slot());
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = Some((key, value));
        let point = Point { hash, slot };
        self.points[table].insert_unique(spread(hash), point, |point| spread(point.hash));
        slot
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
        let point = self.points[table].find_entry(spread(hash), |point| point.slot == slot);
        point.expect("each slot in use is pointed to").remove();
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
        slots.map(|(_, slot)| {
            let (key, value) = self.entry(*slot);
            (key, value)
        })
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        let slots = self.blocks.iter().flatten().flatten();
        slots.map(|(key, value)| (key, value))
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

    proptest! {
        /// It is a map, however keys come and go.
        #[test]
        fn is_a_map(steps in prop::collection::vec((0u16..3000, any::<Option<u8>>()), 0..6000)) {
            let mut index = Index::new();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let key = key.to_be_bytes();
                prop_assert_eq!(index.get(&key).map(|(_, v)| *v), model.get(&key[..]).copied());
                match (value, index.get_mut(&key)) {
                    (Some(value), Some(there)) => *there = value,
                    (Some(value), None) => index.insert(Bytes::copy_from_slice(&key), value),
                    (None, _) => index.remove(&key),
                }
                match value {
                    Some(value) => model.insert(key.to_vec(), value),
                    None => model.remove(&key[..]),
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
                prop_assert_eq!(index.get(key).map(|(_, v)| v), Some(value));
            }
        }
    }
}
