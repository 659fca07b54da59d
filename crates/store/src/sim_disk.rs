//! A disk in memory that behaves as badly as a real one may.
//!
//! Test support, for this crate and for others: what is not synced may be lost at a crash, in
//! whole or in part and in any order; writes may be torn; a sync may fail, after which nobody
//! knows what is on the disk; writes may fail, the whole disk may turn read-only, room may run out,
//! bits may rot, and time passes as the disk takes it. All of it follows from a seed.

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
    /// Of the file itself, whatever else had the first name before.
    Rename(String, String, usize),
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
    /// Writes until one fails.
    write_failure_in: Option<u64>,
    read_only: bool,
    capacity: Option<usize>,
    operations: u64,
    clock_ms: u64,
    /// One sync in so many takes seconds.
    slow_sync_once_in: Option<u64>,
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
            write_failure_in: None,
            read_only: false,
            capacity: None,
            operations: 0,
            clock_ms: 1_000,
            slow_sync_once_in: None,
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

    /// Makes the write after so many more fail halfway with an I/O error.
    pub fn fail_write_after(&self, writes: u64) {
        self.0.lock().write_failure_in = Some(writes);
    }

    /// Refuses every change from now on, as a file system does that met an error, or no longer.
    pub fn set_read_only(&self, read_only: bool) {
        self.0.lock().read_only = read_only;
    }

    /// Makes one sync in so many take seconds of the simulated time.
    pub fn slow_syncs(&self, once_in: Option<u64>) {
        self.0.lock().slow_sync_once_in = once_in;
    }

    /// The simulated time: every operation takes a little of it.
    pub fn clock_ms(&self) -> u64 {
        self.0.lock().clock_ms
    }

    /// Lets time pass.
    pub fn pass(&self, milliseconds: u64) {
        self.0.lock().clock_ms += milliseconds;
    }

    /// What a file holds, if there is one.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock();
        let inode = *state.names.get(name)?;
        Some(state.inodes[inode].cached.clone())
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
        state.heal();
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
        self.0.lock().heal();
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
        NameChange::Rename(from, to, inode) => {
            // A creation or a removal before it may be what was lost.
            if names.get(&from) == Some(&inode) {
                names.remove(&from);
            }
            names.insert(to, inode);
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
    }
}

impl Inode {
    /// Brings what is not synced to the disk. What an earlier sync failed to bring there counts
    /// as synced and stays lost, as on Linux.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::Truncate(len) => self.durable.truncate(len),
                Unsynced::Write { offset, bytes } => put_at(&mut self.durable, offset, &bytes),
            }
        }
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
                    let mut from = 0;
                    while from < kept {
                        // Sectors are those of the disk, wherever the write begins.
                        let to = kept.min(from + SECTOR - (offset + from) % SECTOR);
                        if !(at_random && dice.once_in(2)) {
                            put_at(&mut self.durable, offset + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
    }
}

fn put_at(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

impl State {
    /// No failure is planned any more.
    fn heal(&mut self) {
        self.power_left = None;
        self.sync_failure_in = None;
        self.write_failure_in = None;
        self.read_only = false;
        self.slow_sync_once_in = None;
        self.capacity = None;
    }

    /// Counts an operation; false when the power goes in the middle of this one.
    fn step(&mut self) -> io::Result<bool> {
        self.operations += 1;
        self.clock_ms += self.dice.below(3);
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
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
        let inode = state.inode(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), inode))
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
        let broken = state.write_failure_in == Some(0);
        state.write_failure_in = state.write_failure_in.map(|left| left.saturating_sub(1));
        let room = if broken {
            room.min(bytes.len() / 2)
        } else {
            room
        };
        let inode = &mut state.inodes[self.inode];
        let fits = bytes.len().min(room);
        let offset = inode.cached.len();
        inode.cached.extend_from_slice(&bytes[..fits]);
        inode.unsynced.push(Unsynced::Write {
            offset,
            bytes: bytes[..fits].to_vec(),
        });
        match (whole, fits == bytes.len()) {
            _ if broken => Err(io::Error::other("simulated I/O error")),
            (false, _) => Err(power_cut()),
            (true, false) => Err(io::ErrorKind::StorageFull.into()),
            (true, true) => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let state = &mut *state;
        let whole = state.step()?;
        if state
            .slow_sync_once_in
            .is_some_and(|times| state.dice.once_in(times))
        {
            state.clock_ms += 1_000 + state.dice.below(9_000);
        }
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
