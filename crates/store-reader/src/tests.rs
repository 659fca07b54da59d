//! The second reader agrees with the engine, and sees damage.

use std::collections::BTreeMap;
use std::io;

use store::disk::Disk;
use store::sim::{self, Sight};
use store::sim_disk::SimDisk;

use crate::{Files, Problem, verify};

struct Simulated<'a>(&'a SimDisk);

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

fn agree(sight: &Sight<'_>) {
    let found = verify(&Simulated(sight.disk)).expect("sound files");
    assert_eq!(found.revision, sight.revision);
    let keys = found.keys.into_iter();
    let keys: BTreeMap<_, _> = keys
        .map(|(key, entry)| (key.into(), entry.value.into()))
        .collect();
    assert_eq!(&keys, sight.state);
}

#[test]
fn both_readers_see_the_same_after_every_life() {
    sim::run(100_000..100_300, agree)
        .unwrap_or_else(|broken| panic!("seed {}: {}", broken.seed, broken.what));
}

#[test]
fn damage_is_seen() {
    let mut tried = 0;
    sim::run(200_000..200_010, |sight| {
        for name in sight.disk.list().expect("names") {
            if name == "FORMAT" || sight.disk.len_of(&name) < Some(100) {
                continue;
            }
            sight.disk.damage(&name, 50);
            let found = verify(&Simulated(sight.disk));
            sight.disk.damage(&name, 50);
            // This reader does not tell a broken last record from an unfinished one.
            match found {
                // Without its newest checkpoint, it may be the log that does not reach.
                Err(Problem::Damaged { .. }) => {}
                Ok(contents) => assert!(
                    contents.unfinished > 0 || !contents.superfluous_damage.is_empty(),
                    "{name}"
                ),
                Err(other) => panic!("{other}"),
            }
            tried += 1;
        }
    })
    .expect("sound lives");
    assert!(tried > 10, "{tried}");
}

/// A directory as the first release of this format wrote it.
#[test]
fn directories_of_earlier_releases_are_read_by_both() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata/format-1");
    let dir = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(&fixture).expect("the fixture") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("copied");
    }
    let found = verify(&crate::Directory::new(dir.path())).expect("sound");
    assert_eq!((found.revision, found.compacted), (101, 96));
    let engine = store::embedded::Engine::open(dir.path(), Default::default()).expect("opened");
    assert_eq!(store::Store::revision(&*engine), 101);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let all = store::Range::prefix("");
    let all = runtime
        .block_on(store::Store::range(&*engine, all))
        .expect("read");
    assert_eq!(all.kvs.len(), found.keys.len());
    for kv in all.kvs {
        let entry = &found.keys[&kv.key[..]];
        assert_eq!(
            (&kv.value[..], kv.mod_revision),
            (&entry.value[..], entry.written)
        );
        assert_eq!(
            (kv.create_revision, kv.version),
            (entry.created, entry.version)
        );
    }
}
