//! The second reader agrees with the engine, and sees damage.

use std::collections::BTreeMap;
use std::io;

use store::disk::Disk;
use store::embedded::{Engine, Options};
use store::sim::{self, Sight};
use store::sim_disk::SimDisk;
use store::{Op, Range, Store, Txn};

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
            // Of format 1 this reader does not tell a broken last record from an unfinished one.
            match found {
                // Without its newest checkpoint, it may be the log that does not reach.
                Err(Problem::Damaged { .. }) => {}
                Ok(contents) => assert!(
                    contents.format == 1 && contents.unfinished > 0
                        || !contents.superfluous_damage.is_empty(),
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

/// Of a last record that holds nothing but zeros, this reader sees every bit that turns over.
#[test]
fn damage_among_zeros_is_seen() {
    let dir = copy_of("format-2");
    let log = std::fs::read_dir(dir.path()).expect("a directory");
    let logs = log.map(|entry| entry.expect("a file").path());
    let last = logs
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max()
        .expect("a log");
    let whole = std::fs::read(&last).expect("the log");
    for at in (whole.len() - 2500..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&last, &bytes).expect("written");
        let found = verify(&crate::Directory::new(dir.path()));
        assert!(matches!(found, Err(Problem::Damaged { .. })), "{at}");
        // Cut short or with a sector that was never written, it is an unfinished write.
        bytes = whole.clone();
        let sector = at - at % 512;
        if sector + 512 < whole.len() && sector > whole.len() - 2500 {
            bytes[sector..sector + 512].fill(0);
        } else {
            bytes.truncate(at);
        }
        std::fs::write(&last, &bytes).expect("written");
        let found = verify(&crate::Directory::new(dir.path())).expect("sound");
        assert!(found.unfinished > 0, "{at}");
    }
}

fn copy_of(name: &str) -> tempfile::TempDir {
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata");
    let dir = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(testdata.join(name)).expect("the fixture") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("copied");
    }
    dir
}

/// Directories as earlier releases wrote them: the first format, and one that was upgraded to the second. They are read,
/// and written to.
#[tokio::test]
async fn directories_of_earlier_releases_are_read_by_both_and_upgraded() {
    for (name, format, at) in [("format-1", 1, (101, 96)), ("format-2", 2, (106, 101))] {
        let dir = copy_of(name);
        let found = verify(&crate::Directory::new(dir.path())).expect("sound");
        assert_eq!(found.format, format);
        assert_eq!((found.revision, found.compacted), at, "{name}");
        let engine = Engine::open(dir.path(), Options::default()).expect("opened");
        assert_eq!(engine.revision(), at.0);
        let all = engine.range(Range::prefix("")).await.expect("read");
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
        let txn = Txn {
            success: vec![Op::Put {
                key: "upgraded".into(),
                value: vec![0; 2000].into(),
                ttl: None,
            }],
            ..Txn::default()
        };
        engine.txn(txn).await.expect("written");
        engine.close();
        let written = verify(&crate::Directory::new(dir.path())).expect("sound");
        assert_eq!((written.format, written.revision), (2, at.0 + 1));
        assert_eq!(written.keys[&b"upgraded"[..]].value, [0; 2000]);
        assert_eq!(written.keys.len(), found.keys.len() + 1);
    }
}
