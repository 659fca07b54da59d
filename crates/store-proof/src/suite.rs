//! The contract of [`Store`] as tests. Each begins with an empty store of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use store::{
    Compare, Event, EventKind, Op, Range, RangeEnd, Store, StoreError, Txn, TxnResult, WatchStream,
};

/// A test; it panics when the contract is broken.
pub type Test = fn(Arc<dyn Store>) -> BoxFuture<'static, ()>;

/// All of them, by name.
pub const TESTS: &[(&str, Test)] = &[
    ("revisions versions and previous values", |store| {
        revisions_versions_and_previous_values(store).boxed()
    }),
    ("ranges", |store| ranges(store).boxed()),
    ("a prefix of high bytes ends where it should", |store| {
        a_prefix_of_high_bytes_ends_where_it_should(store).boxed()
    }),
    ("a range larger than a piece is whole", |store| {
        a_range_larger_than_a_piece_is_whole(store).boxed()
    }),
    ("compare and swap", |store| compare_and_swap(store).boxed()),
    ("of many that race one wins", |store| {
        of_many_that_race_one_wins(store).boxed()
    }),
    ("a watch brings the past then the future", |store| {
        a_watch_brings_the_past_then_the_future(store).boxed()
    }),
    ("progress tells what the reader is done with", |store| {
        progress_tells_what_the_reader_is_done_with(store).boxed()
    }),
    ("compaction forgets the past and says so", |store| {
        compaction_forgets_the_past_and_says_so(store).boxed()
    }),
    ("keys with a time to live go away", |store| {
        keys_with_a_time_to_live_go_away(store).boxed()
    }),
    ("many watchers see the same and none is lost", |store| {
        many_watchers_see_the_same_and_none_is_lost(store).boxed()
    }),
    ("conditions on ranges", |store| {
        conditions_on_ranges(store).boxed()
    }),
    ("named leases", |store| named_leases(store).boxed()),
];

/// Runs all of them, each on a store that `make` makes and that is dropped afterwards.
pub async fn run(mut make: impl AsyncFnMut() -> Arc<dyn Store>) {
    for (name, test) in TESTS {
        println!("{name}");
        test(make().await).await;
    }
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: b(key),
        value: b(value),
        ttl: None,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: b(key) }
}

fn txn(success: impl IntoIterator<Item = Op>) -> Txn {
    Txn {
        success: success.into_iter().collect(),
        ..Txn::default()
    }
}

fn mod_revision(key: &str, equals: u64) -> Compare {
    Compare::ModRevision {
        key: b(key),
        equals,
    }
}

async fn commit(store: &Arc<dyn Store>, ops: impl IntoIterator<Item = Op>) -> u64 {
    match store.txn(txn(ops)).await.unwrap() {
        TxnResult::Committed { revision, .. } => revision,
        failed => panic!("{failed:?}"),
    }
}

async fn read(store: &Arc<dyn Store>, range: Range) -> String {
    match store.range(range).await {
        Ok(found) => {
            let kvs: Vec<_> = found.kvs.iter().map(line).collect();
            format!(
                "{} count={} more={}",
                kvs.join(" "),
                found.count,
                found.more
            )
        }
        Err(error) => error.to_string(),
    }
}

fn line(kv: &store::KeyValue) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (key, value) = (text(&kv.key), text(&kv.value));
    format!(
        "{key}={value}@{}/{}v{}",
        kv.create_revision, kv.mod_revision, kv.version
    )
}

fn show(event: &Event) -> String {
    let before = event.previous.as_ref().map_or("-".into(), line);
    match event.kind {
        EventKind::Put => format!("put {} was {before}", line(&event.kv)),
        EventKind::Delete => {
            let key = String::from_utf8_lossy(&event.kv.key).into_owned();
            format!("delete {key}@{} was {before}", event.kv.mod_revision)
        }
    }
}

async fn next(watch: &mut WatchStream) -> String {
    match watch.next().await {
        Some(Ok(batch)) => {
            let events: Vec<_> = batch.events.iter().map(show).collect();
            format!("{}: {}", batch.revision, events.join(", "))
        }
        Some(Err(error)) => error.to_string(),
        None => "end".into(),
    }
}

async fn revisions_versions_and_previous_values(store: Arc<dyn Store>) {
    assert_eq!(store.revision(), 1);
    assert_eq!(commit(&store, [put("a", "1")]).await, 2);
    assert_eq!(commit(&store, [put("a", "2"), put("b", "1")]).await, 3);
    assert_eq!(commit(&store, [delete("none")]).await, 3, "nothing changed");
    assert_eq!(commit(&store, []).await, 3);
    let result = store
        .txn(txn([delete("a"), delete("none"), put("c", "")]))
        .await
        .unwrap();
    let TxnResult::Committed {
        revision: 4,
        previous,
    } = result
    else {
        panic!("{result:?}")
    };
    let previous: Vec<_> = previous.iter().map(|kv| kv.as_ref().map(line)).collect();
    assert_eq!(previous, [Some("a=2@2/3v2".to_owned()), None, None]);
    assert_eq!(commit(&store, [put("a", "3")]).await, 5);
    assert_eq!(
        read(&store, Range::prefix("")).await,
        "a=3@5/5v1 b=1@3/3v1 c=@4/4v1 count=3 more=false"
    );
    assert_eq!(store.revision(), 5);
}

async fn ranges(store: Arc<dyn Store>) {
    for key in ["p/1", "p/2", "p/3", "p0", "q", "p"] {
        commit(&store, [put(key, key)]).await;
    }
    let names = async |range: Range| {
        let found = store.range(range).await.unwrap();
        let keys: Vec<_> = found
            .kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect();
        format!("{} {} {}", keys.join(","), found.count, found.more)
    };
    let base = Range::prefix("p/");
    assert_eq!(names(base.clone()).await, "p/1,p/2,p/3 3 false");
    assert_eq!(
        names(Range {
            limit: 2,
            ..base.clone()
        })
        .await,
        "p/1,p/2 3 true"
    );
    assert_eq!(
        names(Range {
            limit: 3,
            ..base.clone()
        })
        .await,
        "p/1,p/2,p/3 3 false"
    );
    assert_eq!(
        names(Range {
            count_only: true,
            ..base.clone()
        })
        .await,
        " 3 false"
    );
    assert_eq!(
        names(Range {
            revision: Some(3),
            ..base.clone()
        })
        .await,
        "p/1,p/2 2 false"
    );
    assert_eq!(
        names(Range {
            revision: Some(1),
            ..base.clone()
        })
        .await,
        " 0 false"
    );
    assert_eq!(names(Range::key("p")).await, "p 1 false");
    assert_eq!(names(Range::key("x")).await, " 0 false");
    let before = Range {
        end: RangeEnd::Before(b("p0")),
        ..Range::key("p/2")
    };
    assert_eq!(names(before.clone()).await, "p/2,p/3 2 false");
    assert_eq!(
        names(Range {
            start: b("z"),
            ..before
        })
        .await,
        " 0 false"
    );
    assert_eq!(names(Range::prefix("")).await, "p,p/1,p/2,p/3,p0,q 6 false");
    let future = Range {
        revision: Some(8),
        ..base
    };
    assert_eq!(
        store.range(future).await.unwrap_err(),
        StoreError::FutureRevision {
            requested: 8,
            current: 7
        }
    );
}

async fn a_prefix_of_high_bytes_ends_where_it_should(store: Arc<dyn Store>) {
    let keys: [&[u8]; 4] = [b"a\xfe", b"a\xff", b"a\xff\xff", b"b"];
    for key in keys {
        let key = bytes::Bytes::from_static(key);
        commit(
            &store,
            [Op::Put {
                key,
                value: b(""),
                ttl: None,
            }],
        )
        .await;
    }
    let count =
        async |prefix: &'static [u8]| store.range(Range::prefix(prefix)).await.unwrap().count;
    assert_eq!(count(b"a\xff").await, 2);
    assert_eq!(count(b"a").await, 3);
    assert_eq!(count(b"\xff").await, 0);
}

async fn a_range_larger_than_a_piece_is_whole(store: Arc<dyn Store>) {
    for part in 0..6 {
        let keys = (0..500).map(|n| put(&format!("k{part}{n:03}"), "v"));
        commit(&store, keys).await;
    }
    let found = store.range(Range::prefix("k")).await.unwrap();
    assert_eq!((found.kvs.len(), found.count), (3000, 3000));
    assert!(found.kvs.is_sorted_by(|a, b| a.key < b.key));
    let some = store
        .range(Range {
            limit: 1500,
            ..Range::prefix("k")
        })
        .await
        .unwrap();
    assert_eq!((some.kvs.len(), some.count, some.more), (1500, 3000, true));
}

async fn compare_and_swap(store: Arc<dyn Store>) {
    let create = Txn {
        compare: vec![mod_revision("a", 0)],
        ..txn([put("a", "1")])
    };
    let create = Txn {
        failure_read: vec![b("a"), b("x")],
        ..create
    };
    assert!(matches!(
        store.txn(create.clone()).await.unwrap(),
        TxnResult::Committed { revision: 2, .. }
    ));
    let TxnResult::Failed {
        current,
        revision: 2,
    } = store.txn(create).await.unwrap()
    else {
        panic!("created twice");
    };
    assert_eq!(current[0].as_ref().map(line).unwrap(), "a=1@2/2v1");
    assert_eq!(current[1], None);
    let update = Txn {
        compare: vec![mod_revision("a", 2)],
        ..txn([put("a", "2")])
    };
    assert!(matches!(
        store.txn(update.clone()).await.unwrap(),
        TxnResult::Committed { revision: 3, .. }
    ));
    assert!(matches!(
        store.txn(update).await.unwrap(),
        TxnResult::Failed { .. }
    ));
    assert_eq!(
        store
            .txn(txn([put("a", "1"), delete("a")]))
            .await
            .unwrap_err(),
        StoreError::Invalid("a key must not be changed twice in a transaction")
    );
    assert_eq!(
        store.txn(txn([put("", "1")])).await.unwrap_err(),
        StoreError::Invalid("a key must not be empty")
    );
}

async fn of_many_that_race_one_wins(store: Arc<dyn Store>) {
    let attempts = (0..50).map(|n| {
        let create = txn([put("lock", &n.to_string())]);
        let create = Txn {
            compare: vec![mod_revision("lock", 0)],
            ..create
        };
        let store = store.clone();
        tokio::spawn(async move { store.txn(create).await.unwrap() })
    });
    let results = futures::future::join_all(attempts).await;
    let won = |result: &TxnResult| matches!(result, TxnResult::Committed { .. });
    assert_eq!(
        results
            .iter()
            .filter(|result| won(result.as_ref().unwrap()))
            .count(),
        1
    );
    assert_eq!(store.revision(), 2);
}

async fn a_watch_brings_the_past_then_the_future(store: Arc<dyn Store>) {
    commit(&store, [put("a/1", "x"), put("b", "x")]).await;
    commit(&store, [put("b", "y")]).await;
    let mut watch = store.watch(b("a/"), RangeEnd::Prefix, 1).await.unwrap();
    assert_eq!(next(&mut watch).await, "2: put a/1=x@2/2v1 was -");
    assert!(next(&mut watch).now_or_never().is_none());
    commit(&store, [put("a/2", "x"), delete("a/1")]).await;
    assert_eq!(
        next(&mut watch).await,
        "4: put a/2=x@4/4v1 was -, delete a/1@4 was a/1=x@2/2v1"
    );
    let mut one = store.watch(b("b"), RangeEnd::Key, 3).await.unwrap();
    assert_eq!(next(&mut one).await, "3: put b=y@2/3v2 was b=x@2/2v1");
    let mut later = store.watch(b(""), RangeEnd::Prefix, 6).await.unwrap();
    assert!(next(&mut later).now_or_never().is_none());
    commit(&store, [put("b", "5")]).await;
    assert!(next(&mut later).now_or_never().is_none());
    commit(&store, [put("b", "6")]).await;
    assert_eq!(next(&mut later).await, "6: put b=6@2/6v4 was b=5@2/5v3");
}

async fn progress_tells_what_the_reader_is_done_with(store: Arc<dyn Store>) {
    let mut watch = store.watch(b("a"), RangeEnd::Prefix, 2).await.unwrap();
    let progress = watch.progress();
    assert_eq!(progress.revision(), 1);
    assert!(next(&mut watch).now_or_never().is_none());
    commit(&store, [put("other", "")]).await;
    assert_eq!(
        progress.revision(),
        2,
        "nothing for this watch is under way"
    );
    commit(&store, [put("a", "1")]).await;
    commit(&store, [put("a", "2")]).await;
    commit(&store, [put("other", "")]).await;
    assert_eq!(progress.revision(), 2);
    assert!(next(&mut watch).await.starts_with("3:"));
    assert_eq!(
        progress.revision(),
        2,
        "yielded but perhaps not yet worked off"
    );
    assert!(next(&mut watch).await.starts_with("4:"));
    assert_eq!(progress.revision(), 3);
    assert!(next(&mut watch).now_or_never().is_none());
    assert_eq!(progress.revision(), 5);
}

async fn compaction_forgets_the_past_and_says_so(store: Arc<dyn Store>) {
    for value in ["1", "2", "3"] {
        commit(&store, [put("a", value)]).await;
    }
    commit(&store, [delete("a"), put("b", "1")]).await;
    let mut behind = store.watch(b("a"), RangeEnd::Key, 2).await.unwrap();
    store.compact(3).await.unwrap();
    store.compact(2).await.unwrap();
    let at = |revision| Range {
        revision: Some(revision),
        ..Range::prefix("")
    };
    assert_eq!(
        store.range(at(2)).await.unwrap_err(),
        StoreError::Compacted {
            requested: 2,
            compacted: 3
        }
    );
    assert_eq!(read(&store, at(3)).await, "a=2@2/3v2 count=1 more=false");
    assert_eq!(read(&store, at(4)).await, "a=3@2/4v3 count=1 more=false");
    let gone = StoreError::Compacted {
        requested: 2,
        compacted: 3,
    };
    assert_eq!(next(&mut behind).await, gone.to_string());
    assert_eq!(next(&mut behind).await, "end");
    let refused = store.watch(b("a"), RangeEnd::Key, 3).await.err();
    assert_eq!(
        refused,
        Some(StoreError::Compacted {
            requested: 3,
            compacted: 3
        })
    );
    let mut watch = store.watch(b("a"), RangeEnd::Key, 4).await.unwrap();
    assert_eq!(next(&mut watch).await, "4: put a=3@2/4v3 was a=2@2/3v2");
    store.compact(5).await.unwrap();
    assert_eq!(read(&store, at(5)).await, "b=1@5/5v1 count=1 more=false");
    assert_eq!(
        store.compact(6).await.unwrap_err(),
        StoreError::FutureRevision {
            requested: 6,
            current: 5
        }
    );
}

async fn keys_with_a_time_to_live_go_away(store: Arc<dyn Store>) {
    let short = |key: &str, ttl| Op::Put {
        key: b(key),
        value: b("x"),
        ttl: Some(ttl),
    };
    let (soon, late) = (Duration::from_millis(20), Duration::from_secs(3600));
    let mut watch = store.watch(b(""), RangeEnd::Prefix, 2).await.unwrap();
    commit(
        &store,
        [
            short("a", soon),
            short("b", late),
            short("c", soon),
            put("d", "x"),
        ],
    )
    .await;
    commit(&store, [put("c", "kept")]).await;
    let found = store.range(Range::prefix("")).await.unwrap();
    assert!(
        found
            .kvs
            .iter()
            .any(|kv| kv.key == "b" && kv.lease.is_some())
    );
    assert!(next(&mut watch).await.starts_with("2: "));
    // On a slow machine the two may go in either order; either way `c` is there in the end.
    let mut gone = String::new();
    while !gone.contains("delete a") {
        gone = next(&mut watch).await;
    }
    assert_eq!(store.range(Range::key("a")).await.unwrap().count, 0);
    let kept = store.range(Range::key("c")).await.unwrap();
    assert_eq!(
        (kept.kvs[0].value.as_ref(), kept.kvs[0].lease),
        (&b"kept"[..], None)
    );
    assert_eq!(store.range(Range::prefix("")).await.unwrap().count, 3);
}

async fn many_watchers_see_the_same_and_none_is_lost(store: Arc<dyn Store>) {
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut watch = store.watch(b("k"), RangeEnd::Prefix, 2).await.unwrap();
                let mut seen = Vec::new();
                while seen.len() < 300 {
                    seen.push(watch.next().await.unwrap().unwrap().revision);
                }
                seen
            })
        })
        .collect();
    let writers = (0..300).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { commit(&store, [put(&format!("k{n}"), "v")]).await })
    });
    futures::future::join_all(writers).await;
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (2..302).collect::<Vec<_>>());
    }
}

async fn conditions_on_ranges(store: Arc<dyn Store>) {
    commit(&store, [put("a/1", "x"), put("b", "x")]).await;
    commit(&store, [put("a/2", "x")]).await;
    let attempt = async |start: &str, end: RangeEnd, revision| {
        let start = b(start);
        let compare = Compare::NotNewer {
            start,
            end,
            revision,
        };
        let txn = Txn {
            compare: vec![compare],
            ..txn([put("seen", "x")])
        };
        matches!(store.txn(txn).await.unwrap(), TxnResult::Committed { .. })
    };
    assert!(!attempt("a/", RangeEnd::Prefix, 2).await);
    assert!(attempt("a/", RangeEnd::Prefix, 3).await);
    assert!(attempt("a/1", RangeEnd::Key, 2).await);
    assert!(attempt("b", RangeEnd::Before(b("c")), 2).await);
    assert!(attempt("none", RangeEnd::Prefix, 1).await);
    assert!(!attempt("a", RangeEnd::Open, 3).await, "seen is newer");
    commit(&store, [delete("a/2")]).await;
    assert!(attempt("a/", RangeEnd::Prefix, 2).await);
    let open = Range {
        end: RangeEnd::Open,
        ..Range::key("b")
    };
    assert_eq!(store.range(open).await.unwrap().count, 2);
}

/// A key on a named lease goes away with the lease, which etcd and its API keep; the store alone
/// keeps only the name.
async fn named_leases(store: Arc<dyn Store>) {
    let nameless = Op::PutLeased {
        key: b("a"),
        value: b("x"),
        lease: store::LeaseId(7),
    };
    assert_eq!(
        store.txn(txn([nameless])).await.unwrap_err(),
        StoreError::Invalid("a lease must have a name")
    );
}
