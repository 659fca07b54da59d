//! Backups, restoring them, and making the files small.

use std::sync::Arc;

use super::{b, put, tiny, txn};
use crate::backup::{self, LEAP};
use crate::embedded::{Engine, OpenError, Options};
use crate::sim_disk::SimDisk;
use crate::{Condition, Range, RangeEnd, Store, StoreError};

async fn filled(engine: &Arc<Engine>, keys: usize) {
    for some in (0..keys).collect::<Vec<_>>().chunks(500) {
        let ops = some
            .iter()
            .map(|n| put(&format!("k{n}"), &"x".repeat(n % 300)));
        engine.txn(txn(ops)).await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_taken_beside_writes_is_one_state_and_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::open(&home.path().join("store"), Options::default()).unwrap();
    filled(&engine, 2000).await;
    let writer = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                let ops = [put("k0", &n.to_string()), put("k1999", &n.to_string())];
                engine.txn(txn(ops)).await.unwrap();
            }
        })
    };
    let (from, mut file) = (engine.clone(), Vec::new());
    let (revision, file) = tokio::task::spawn_blocking(move || {
        let revision = from.backup(&mut file).unwrap();
        (revision, file)
    })
    .await
    .unwrap();
    writer.await.unwrap();
    let to = home.path().join("restored");
    let restored = backup::restore(&mut &file[..], &to, false).unwrap();
    assert_eq!((restored.backup.keys, restored.replaced), (2000, None));
    assert_eq!(restored.revision, revision + LEAP);
    let copy = Engine::open(&to, Options::default()).unwrap();
    let there = copy.range(Range::prefix("")).await.unwrap();
    let then = Range {
        revision: Some(revision),
        ..Range::prefix("")
    };
    assert_eq!(there.kvs, engine.range(then).await.unwrap().kvs);
    // Whoever knows revisions of before is told to read anew.
    let old = copy.watch(b(""), RangeEnd::Prefix, revision + 5).await;
    assert!(matches!(old.err(), Some(StoreError::Compacted { .. })));
    copy.txn(txn([put("k0", "new")])).await.unwrap();
    assert_eq!(copy.revision(), revision + LEAP + 1);
    copy.close();
    let copy = Engine::open(&to, Options::default()).unwrap();
    assert_eq!(copy.revision(), revision + LEAP + 1);
}

#[tokio::test]
async fn restoring_never_mixes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let engine = Engine::open(&dir, Options::default()).unwrap();
    filled(&engine, 10).await;
    let mut file = Vec::new();
    engine.backup(&mut file).unwrap();
    let refused = backup::restore(&mut &file[..], &dir, false);
    assert!(matches!(refused, Err(OpenError::NotEmpty { .. })));
    let refused = backup::restore(&mut &file[..], &dir, true);
    assert!(matches!(refused, Err(OpenError::Locked { .. })));
    engine.close();
    drop(engine);
    for cut in [0, 5, file.len() / 2, file.len() - 1] {
        let refused = backup::restore(&mut &file[..cut], &dir, true);
        assert!(matches!(refused, Err(OpenError::Backup { .. })), "{cut}");
    }
    let mut flipped = file.clone();
    flipped[file.len() / 2] ^= 1;
    let refused = backup::restore(&mut &flipped[..], &dir, true);
    assert!(matches!(refused, Err(OpenError::Backup { .. })));
    let engine = Engine::open(&dir, Options::default()).expect("as it was");
    assert_eq!(engine.revision(), 2);
    engine.close();
    drop(engine);
    let restored = backup::restore(&mut &file[..], &dir, true).unwrap();
    let aside = restored.replaced.expect("put aside");
    let old = Engine::open(&aside, Options::default()).unwrap();
    let new = Engine::open(&dir, Options::default()).unwrap();
    assert_eq!((old.revision(), new.revision()), (2, 2 + LEAP));
    for engine in [old, new] {
        engine.close();
    }
    // However quickly one restore follows the other, each keeps what it found.
    let mut asides = vec![aside];
    for _ in 0..3 {
        let restored = backup::restore(&mut &file[..], &dir, true).unwrap();
        asides.push(restored.replaced.expect("put aside"));
    }
    asides.sort();
    asides.dedup();
    assert_eq!(asides.iter().filter(|aside| aside.exists()).count(), 4);
}

#[tokio::test]
async fn shrinking_leaves_little_more_than_what_is_live() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::open(home.path(), Options::default()).unwrap();
    for n in 0..100 {
        let op = put("one", &format!("{n}").repeat(10_000));
        engine.txn(txn([op])).await.unwrap();
    }
    let before = engine.stats().await.unwrap();
    engine.shrink().await.unwrap();
    let after = engine.stats().await.unwrap();
    assert!(before.log_bytes > 1_000_000, "{before:?}");
    assert!(after.log_bytes < 1_000, "{after:?}");
    assert_eq!((after.keys, after.compacted), (1, 101));
    // Nothing to do is fine as well.
    engine.shrink().await.unwrap();
    engine.close();
    let engine = Engine::open(home.path(), Options::default()).unwrap();
    assert_eq!(engine.revision(), 101);
}

#[tokio::test]
async fn the_condition_says_why_nothing_is_written() {
    let disk = SimDisk::new(3);
    let engine = Engine::open_on(Arc::new(disk.clone()), tiny()).unwrap();
    engine.txn(txn([put("a", "1")])).await.unwrap();
    assert_eq!(engine.condition(), Condition::Serving);
    disk.set_capacity(Some(1));
    engine.txn(txn([put("a", "2")])).await.unwrap_err();
    assert_eq!(engine.condition(), Condition::Full);
    disk.set_capacity(None);
    engine.txn(txn([put("a", "2")])).await.unwrap();
    assert_eq!(engine.condition(), Condition::Serving);
    disk.set_read_only(true);
    engine.txn(txn([put("a", "3")])).await.unwrap_err();
    let said = engine.condition().to_string();
    assert!(said.starts_with("read-only since an I/O error: "), "{said}");
    assert_eq!(
        engine.range(Range::key("a")).await.unwrap().kvs[0].value,
        "2"
    );
}
