//! A disk in memory that behaves as badly as a real one may.
//!
//! Test support, for this crate and for others: what is not synced may be lost at a crash, in
//! whole or in part and in any order; writes may be torn; a sync may fail, after which nobody
//! knows what is on the disk; room may run out. All of it follows from a seed.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, File};

/// What a disk writes at once, or not at all.
const SECTOR: usize = 512;

/// A source of the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Any number (splitmix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    cached: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug)]
struct State {
    dice: Dice,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    /// Operations until the power goes; counts down.
    power_left: Option<u64>,
    /// Syncs until one fails.
    sync_failure_in: Option<u64>,
    capacity: Option<usize>,
    operations: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

fn power_cut() -> io::Error {
    io::Error::other("simulated power cut")
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            power_left: None,
            sync_failure_in: None,
            capacity: None,
            operations: 0,
        })))
    }

    /// Cuts the power in the middle of the operation after so many more. All operations fail
    /// from then on until [`SimDisk::restart`].
    pub fn cut_power_after(&self, operations: u64) {
        self.0.lock().power_left = Some(operations);
    }

    /// Makes the sync after so many more fail as a broken disk does.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.0.lock().sync_failure_in = Some(syncs);
    }

    /// Gives the disk a size in bytes, or none.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.0.lock().capacity = capacity;
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// The power comes (or goes and comes) back: what was not synced is there or not, as the dice
    /// fall, and no more failures are planned.
    pub fn restart(&self) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.power_left = None;
        state.sync_failure_in = None;
        for change in std::mem::take(&mut state.name_changes) {
            if state.dice.once_in(2) {
                apply_name(&mut state.durable_names, change);
            }
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            inode.lose_some(&mut state.dice);
            inode.cached = inode.durable.clone();
        }
    }

    /// Only the process was killed: all that it wrote is there, synced or not.
    pub fn restart_process(&self) {
        let mut state = self.0.lock();
        state.power_left = None;
        state.sync_failure_in = None;
    }

    /// Turns a bit over, as a worn-out disk does, for good. False when the file is shorter.
    pub fn damage(&self, name: &str, offset: usize) -> bool {
        let mut state = self.0.lock();
        let Some(&inode) = state.names.get(name) else {
            return false;
        };
        let inode = &mut state.inodes[inode];
        if offset >= inode.cached.len() || offset >= inode.durable.len() {
            return false;
        }
        inode.cached[offset] ^= 0x10;
        inode.durable[offset] ^= 0x10;
        true
    }

    /// The length of a file, if there is one.
    pub fn len_of(&self, name: &str) -> Option<usize> {
        let state = self.0.lock();
        state
            .names
            .get(name)
            .map(|&inode| state.inodes[inode].cached.len())
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Create(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Rename(from, to) => {
            // The creation before it may be what was lost.
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        self.durable = self.cached.clone();
        self.unsynced.clear();
    }

    /// Brings some of what is not synced to the disk and forgets that the rest never got there.
    fn lose_some(&mut self, dice: &mut Dice) {
        for change in std::mem::take(&mut self.unsynced) {
            match (change, dice.below(4)) {
                (_, 0) => {}
                (Unsynced::Truncate(len), _) => self.durable.truncate(len),
                (Unsynced::Write { offset, bytes }, how) => {
                    let kept = if how == 1 {
                        dice.below(bytes.len() as u64 + 1) as usize
                    } else {
                        bytes.len()
                    };
                    let at_random = how == 2;
                    for (number, sector) in bytes[..kept].chunks(SECTOR).enumerate() {
                        if at_random && dice.once_in(2) {
                            continue;
                        }
                        let start = offset + number * SECTOR;
                        let end = start + sector.len();
                        if self.durable.len() < end {
                            self.durable.resize(end, 0);
                        }
                        self.durable[start..end].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

impl State {
    /// Counts an operation; false when the power goes in the middle of this one.
    fn step(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match &mut self.power_left {
            None => Ok(true),
            Some(0) => Err(power_cut()),
            Some(left) => {
                *left -= 1;
                Ok(*left > 0)
            }
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let whole = self.step()?;
        apply_name(&mut self.names, change.clone());
        self.name_changes.push(change);
        if whole { Ok(()) } else { Err(power_cut()) }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> usize {
        self.names
            .values()
            .map(|&inode| self.inodes[inode].cached.len())
            .sum()
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.0.lock();
        let known = state.names.get(name).copied();
        let inode = known.unwrap_or(state.inodes.len());
        if known.is_none() {
            state.inodes.push(Inode::default());
            state.change_name(NameChange::Create(name.to_owned(), inode))?;
        }
        drop(state);
        let mut file = SimFile {
            disk: self.clone(),
            inode,
        };
        if known.is_some() {
            file.truncate(0)?;
        }
        Ok(Box::new(file))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.0.lock().inode(name)?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn open_read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let state = self.0.lock();
        let inode = state.inode(name)?;
        Ok(Box::new(io::Cursor::new(
            state.inodes[inode].cached.clone(),
        )))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.inode(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.inode(name)?;
        state.change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if !state.step()? {
            return Err(power_cut());
        }
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("sim:{name}")
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl File for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let whole = state.step()?;
        let room = state
            .capacity
            .map_or(usize::MAX, |all| all.saturating_sub(state.used()));
        let inode = &mut state.inodes[self.inode];
        let fits = bytes.len().min(room);
        let offset = inode.cached.len();
        inode.cached.extend_from_slice(&bytes[..fits]);
        inode.unsynced.push(Unsynced::Write {
            offset,
            bytes: bytes[..fits].to_vec(),
        });
        match (whole, fits == bytes.len()) {
            (false, _) => Err(power_cut()),
            (true, false) => Err(io::ErrorKind::StorageFull.into()),
            (true, true) => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let state = &mut *state;
        let whole = state.step()?;
        let inode = &mut state.inodes[self.inode];
        if state.sync_failure_in == Some(0) {
            // As Linux does it: the pages count as clean now, whether they got there or not.
            inode.lose_some(&mut state.dice);
            return Err(io::Error::other("simulated I/O error"));
        }
        state.sync_failure_in = state.sync_failure_in.map(|left| left - 1);
        if !whole {
            // The last thing that was done, or not quite.
            if state.dice.once_in(2) {
                inode.sync();
            }
            return Err(power_cut());
        }
        inode.sync();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let whole = state.step()?;
        let inode = &mut state.inodes[self.inode];
        inode.cached.truncate(len as usize);
        inode.unsynced.push(Unsynced::Truncate(len as usize));
        if whole { Ok(()) } else { Err(power_cut()) }
    }
}
