//! The checker lets a right history pass and finds every kind of wrong one.

use super::*;

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

fn kv(key: &str, value: &str, revision: Revision) -> KeyValue {
    KeyValue {
        key: b(key),
        value: b(value),
        create_revision: 2,
        mod_revision: revision,
        version: 1,
        lease: None,
    }
}

fn asked(op: Op, times: (Moment, Moment), outcome: Outcome) -> Asked {
    Asked {
        txn: Txn {
            success: vec![op],
            ..Txn::default()
        },
        called: times.0,
        returned: times.1,
        outcome,
    }
}

fn committed(revision: Revision, previous: Option<KeyValue>) -> Outcome {
    Outcome::Committed {
        revision,
        previous: vec![previous],
    }
}

fn change(key: &str, value: &str) -> Changes {
    Changes::from([(b(key), Some(b(value)))])
}

/// a=1, then a=2 by a client that got no answer, then b=3.
fn right() -> History {
    let failing = Asked {
        txn: Txn {
            compare: vec![Compare::ModRevision {
                key: b("a"),
                equals: 7,
            }],
            success: vec![put("a", "never")],
            failure_read: vec![b("a")],
        },
        called: 50,
        returned: 60,
        outcome: Outcome::Failed {
            revision: 4,
            current: vec![Some(kv("a", "2", 3))],
        },
    };
    History {
        start: 2,
        asked: vec![
            asked(put("a", "1"), (0, 10), committed(2, None)),
            asked(put("a", "2"), (20, 30), Outcome::Unknown),
            asked(put("b", "3"), (40, 48), committed(4, None)),
            asked(put("c", "x"), (41, 49), Outcome::Refused),
            failing,
        ],
        reads: vec![Read {
            key: b("a"),
            called: 11,
            returned: 35,
            revision: 2,
            found: Some(kv("a", "1", 2)),
        }],
        watches: vec![Watched {
            prefix: b("a"),
            from: 2,
            events: vec![(2, change("a", "1")), (3, change("a", "2"))],
            bookmarks: vec![(1, 2), (2, 4)],
        }],
        truth: BTreeMap::from([
            (2, change("a", "1")),
            (3, change("a", "2")),
            (4, change("b", "3")),
        ]),
    }
}

#[track_caller]
fn broken(change: impl FnOnce(&mut History), says: &str) {
    let mut history = right();
    change(&mut history);
    let error = check(&history).expect_err("a broken history");
    assert!(error.starts_with(says), "{error}");
}

#[test]
fn a_right_history_passes() {
    assert_eq!(check(&right()), Ok(()));
}

#[test]
fn what_was_acknowledged_must_be_there() {
    broken(|h| drop(h.truth.remove(&4)), "acknowledged and lost");
    broken(
        |h| drop(h.truth.insert(4, change("b", "4"))),
        "another change stands",
    );
}

#[test]
fn what_nobody_asked_for_must_not_be_there() {
    broken(
        |h| drop(h.truth.insert(5, change("b", "5"))),
        "nobody asked",
    );
    broken(
        |h| drop(h.truth.insert(5, change("c", "x"))),
        "carried out at 5 against what was told",
    );
    broken(
        |h| drop(h.truth.insert(5, change("a", "2"))),
        "carried out twice",
    );
    broken(
        |h| drop(h.truth.insert(6, change("a", "never"))),
        "revision 6 stands where 5 should be",
    );
}

#[test]
fn states_that_were_told_must_have_been() {
    broken(|h| h.reads[0].revision = 3, "a read shows");
    broken(
        |h| h.asked[2].outcome = committed(4, Some(kv("b", "0", 2))),
        "told a state before it",
    );
    broken(
        |h| {
            h.asked[4].txn.compare = vec![Compare::ModRevision {
                key: b("a"),
                equals: 3,
            }];
        },
        "failed although",
    );
    broken(
        |h| {
            h.asked[2].txn.compare = vec![Compare::ModRevision {
                key: b("a"),
                equals: 2,
            }];
        },
        "committed although",
    );
}

#[test]
fn time_does_not_run_backwards() {
    broken(|h| h.reads[0].called = 49, "told revision 2 after 4");
    broken(
        |h| {
            (h.reads[0].called, h.reads[0].returned) = (0, 0);
            h.asked[0].called = 5;
        },
        "revision 2 was known too early",
    );
}

#[test]
fn watches_are_whole_and_in_order() {
    broken(|h| drop(h.watches[0].events.remove(0)), "a watch of");
    broken(|h| h.watches[0].events.swap(0, 1), "a watch of");
    broken(
        |h| {
            let again = h.watches[0].events[0].clone();
            h.watches[0].events.insert(1, again);
        },
        "a watch of",
    );
    broken(|h| h.watches[0].bookmarks.push((1, 3)), "a bookmark of 3");
}
