//! A second look at the files of a simulated disk.

use std::collections::BTreeMap;
use std::io;

use store::disk::Disk;
use store::sim::Sight;
use store::sim_disk::SimDisk;
use store_reader::{Files, verify};

/// The files of a simulated disk, for the second reader.
pub struct Simulated<'a>(pub &'a SimDisk);

impl Files for Simulated<'_> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0
            .contents(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Panics unless the second reader sees in the files what the simulation knows to be there.
pub fn agree(sight: &Sight<'_>) {
    let found = verify(&Simulated(sight.disk)).expect("sound files");
    assert_eq!(found.revision, sight.revision);
    let keys = found.keys.into_iter();
    let keys: BTreeMap<_, _> = keys
        .map(|(key, entry)| (key.into(), entry.value.into()))
        .collect();
    assert_eq!(&keys, sight.state);
}
