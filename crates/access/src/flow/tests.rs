//! Fairness, borrowing, matching and estimates.

use machinery::Object;
use proptest::prelude::*;
use serde_json::json;

use super::share::{Part, shares};
use super::*;
use crate::User;

const MILLI: u64 = 1_000_000;

fn digest<'a>(user: &'a User, verb: &'a str, resource: &'a str, namespace: &'a str) -> Digest<'a> {
    Digest {
        user,
        verb,
        is_resource: true,
        path: "",
        group: "",
        resource,
        subresource: "",
        namespace,
    }
}

#[test]
fn the_standing_schemas_know_who_asks() {
    let mut schemas: Vec<Schema> = crate::bootstrap::flow_control()
        .iter()
        .filter(|o| o.kind() == "FlowSchema")
        .map(Schema::read)
        .collect();
    schemas.sort_by(|a, b| a.order().cmp(&b.order()));
    let of = |user: &User, verb: &str, resource: &str, namespace: &str| {
        let digest = digest(user, verb, resource, namespace);
        let found = schemas.iter().find(|s| s.fits(&digest));
        found.map(|s| {
            (
                s.name.clone(),
                s.level.clone(),
                s.distinguisher(&digest).to_owned(),
            )
        })
    };
    let told = |user: &User, verb: &str, resource: &str, namespace: &str| {
        let (schema, level, flow) = of(user, verb, resource, namespace).expect("a schema");
        format!("{schema} {level} {flow}")
    };
    let admin = User::new("admin", &["system:masters"]);
    assert_eq!(told(&admin, "list", "pods", ""), "exempt exempt ");
    let node = User::new("system:node:a", &["system:nodes", "system:authenticated"]);
    assert_eq!(
        told(&node, "update", "nodes", ""),
        "system-node-high node-high system:node:a"
    );
    let account = User::new(
        "system:serviceaccount:apps:a",
        &["system:serviceaccounts", "system:authenticated"],
    );
    assert_eq!(
        told(&account, "list", "pods", "apps"),
        "service-accounts workload-low system:serviceaccount:apps:a"
    );
    let jane = User::new("jane", &["system:authenticated"]);
    assert_eq!(
        told(&jane, "get", "pods", "b"),
        "global-default global-default jane"
    );
    let anybody = User::new("system:anonymous", &["system:unauthenticated"]);
    let probe = Digest {
        is_resource: false,
        path: "/healthz",
        ..digest(&anybody, "get", "", "")
    };
    let found = schemas.iter().find(|s| s.fits(&probe));
    assert_eq!(found.map(|s| s.name.as_str()), Some("probes"));
}

#[test]
fn the_seats_of_the_standing_levels_are_upstreams() {
    let all: Vec<Level> = crate::bootstrap::flow_control()
        .iter()
        .filter_map(Level::read)
        .collect();
    let limits = Level::limits(&all, 600);
    let told: Vec<String> = all
        .iter()
        .zip(limits)
        .map(|(l, x)| format!("{} {} {} {}", l.name, x.nominal, x.lower, x.upper))
        .collect();
    for line in [
        "exempt 0 0 600",
        "catch-all 13 13 613",
        "leader-election 25 25 625",
        "workload-low 245 24 845",
    ] {
        assert!(told.iter().any(|t| t == line), "{line}: {told:?}");
    }
}

fn queueing(limit: u64) -> QueueSet<u32> {
    let shape = Shape::Queue {
        queues: 8,
        hand: 2,
        length: 4,
    };
    QueueSet::new(shape, limit, 0)
}

#[test]
fn who_finds_no_seat_waits_and_then_is_refused() {
    let mut set = queueing(1);
    let Start::Execute(first) = set.start(0, Work::ONE, 7, || 0) else {
        panic!("there is a seat");
    };
    let mut waits = 0;
    let reason = loop {
        match set.start(MILLI, Work::ONE, 7, || waits) {
            Start::Wait(..) => waits += 1,
            Start::Reject(reason) => break reason,
            Start::Execute(_) => panic!("there is no seat"),
        }
    };
    // Two queues of four: the flow's hand.
    assert_eq!((waits, reason), (8, "queue-full"));
    let released = set.finish(2 * MILLI, &first);
    assert_eq!(released.woken.len(), 1);
    assert_eq!(set.totals().waiting, 7);
}

/// Two flows that want the same get the same, whoever has more requests.
#[test]
fn a_busy_flow_does_not_crowd_out_another() {
    let mut set = queueing(1);
    let Start::Execute(place) = set.start(0, Work::ONE, 1, || 0) else {
        panic!("there is a seat");
    };
    let mut busy = 0;
    while let Start::Wait(..) = set.start(0, Work::ONE, 1, || 0) {
        busy += 1;
    }
    // Another hand than the busy flow's, all of it.
    let other = (2..100).find(|hash| {
        let mut set = queueing(1);
        let _ = set.start(0, Work::ONE, 1, || 0);
        while let Start::Wait(..) = set.start(0, Work::ONE, 1, || 0) {}
        let before = set.describe().position(|q| q.0 == 0 && q.1 == 0);
        let Start::Wait(at, _) = set.start(0, Work::ONE, *hash, || 1) else {
            return false;
        };
        before.is_some() && set.describe().nth(at).is_some_and(|q| q.0 == 1 && q.1 == 0)
    });
    let other = other.expect("a flow of its own");
    for _ in 0..4 {
        assert!(matches!(
            set.start(0, Work::ONE, other, || 1),
            Start::Wait(..)
        ));
    }
    assert!(busy >= 7);
    let (mut now, mut place, mut served) = (0, place, Vec::new());
    for _ in 0..8 {
        now += 10 * MILLI;
        let mut woken = set.finish(now, &place).woken;
        let next = woken.pop().expect("somebody waits");
        served.push(next.waker);
        place = next.place;
    }
    let of_other = served.iter().filter(|w| **w == 1).count();
    assert!((2..=5).contains(&of_other), "{served:?}");
}

#[test]
fn seats_stay_taken_while_others_hear_of_a_change() {
    let work = estimate::change(40, None);
    assert_eq!(
        (work.seats, work.after, work.after_nanos),
        (1, 4, 5_000_000)
    );
    let mut set: QueueSet<u32> = QueueSet::new(Shape::Reject, 4, 0);
    let Start::Execute(place) = set.start(0, work, 0, || 0) else {
        panic!("there is a seat");
    };
    let released = set.finish(MILLI, &place);
    assert_eq!(released.lingers, Some(5_000_000));
    assert!(matches!(
        set.start(MILLI, Work::ONE, 0, || 0),
        Start::Reject(_)
    ));
    set.release(6 * MILLI, &place);
    assert!(matches!(
        set.start(6 * MILLI, Work::ONE, 0, || 0),
        Start::Execute(_)
    ));
}

#[test]
fn lists_take_seats_by_their_size() {
    assert_eq!(estimate::list(10, 1000, None, None), Work::ONE);
    assert_eq!(estimate::list(100_000, 1000, None, None).seats, 10);
    assert_eq!(estimate::list(100_000, 1000, Some(500), None).seats, 5);
    assert_eq!(estimate::list(100_000, 1000, None, Some(3)).seats, 3);
}

#[test]
fn a_level_borrows_what_another_does_not_use() {
    let part = |nominal, lower, upper, most, smoothed| Part {
        limits: Limits {
            nominal,
            lower,
            upper,
            of_one: None,
        },
        memory: Memory {
            most,
            smoothed,
            ..Memory::default()
        },
        exempt: false,
    };
    let (given, _) = shares(&[
        part(100, 10, 700, 100.0, 300.0),
        part(100, 10, 700, 0.0, 0.0),
    ]);
    assert_eq!((given[0].seats, given[1].seats), (190, 10));
    let (given, _) = shares(&[
        part(100, 10, 120, 100.0, 300.0),
        part(100, 10, 700, 0.0, 0.0),
    ]);
    assert_eq!((given[0].seats, given[1].seats), (120, 80));
}

#[test]
fn the_more_are_refused_the_later_they_come_back() {
    let mut dropped = Dropped::default();
    assert_eq!(dropped.note(100), 1);
    for second in 101..140 {
        for _ in 0..200 {
            dropped.note(second);
        }
    }
    assert_eq!(dropped.note(140), 32);
    let mut after = 32;
    for second in (200..).step_by(40).take(40) {
        after = dropped.note(second);
    }
    assert_eq!(after, 1);
}

proptest! {
    /// Whatever happens, no seat is lost or made.
    #[test]
    fn seats_are_conserved(limit in 1_u64..6, steps in prop::collection::vec((0_u8..4, 0_u64..40, 1_u64..4), 1..200)) {
        let mut set: QueueSet<u64> = queueing_of(limit);
        let (mut now, mut served, mut waiting) = (0, Vec::new(), Vec::new());
        for (what, hash, seats) in steps {
            now += MILLI;
            match what {
                0 | 1 => {
                    let work = Work { seats, ..Work::ONE };
                    match set.start(now, work, hash, || now) {
                        Start::Execute(place) => served.push(place),
                        Start::Wait(queue, number) => waiting.push((now, queue, number)),
                        Start::Reject(_) => {}
                    }
                }
                2 if !served.is_empty() => {
                    let place = served.swap_remove(hash as usize % served.len());
                    for woken in set.finish(now, &place).woken {
                        waiting.retain(|(at, ..)| *at != woken.waker);
                        served.push(woken.place);
                    }
                }
                _ if !waiting.is_empty() => {
                    let (_, queue, number) = waiting.swap_remove(hash as usize % waiting.len());
                    prop_assert!(set.cancel(now, queue, number));
                }
                _ => {}
            }
            let totals = set.totals();
            prop_assert_eq!(totals.executing, served.len());
            prop_assert_eq!(totals.waiting, waiting.len());
            prop_assert!(totals.seats <= limit || totals.executing == 1);
            let queues: Vec<_> = set.describe().collect();
            prop_assert_eq!(queues.iter().map(|q| q.0).sum::<usize>(), waiting.len());
            prop_assert_eq!(queues.iter().map(|q| q.2).sum::<u64>(), totals.seats);
        }
        while let Some(place) = served.pop() {
            now += MILLI;
            served.extend(set.finish(now, &place).woken.into_iter().map(|w| w.place));
        }
        prop_assert_eq!(set.totals().waiting, 0);
        prop_assert_eq!(set.totals().seats, 0);
        prop_assert!(set.active == 0 && set.wanted == 0);
    }

    #[test]
    fn shares_stay_within_bounds(parts in prop::collection::vec((1_u64..200, 0_u64..100, 0_u64..200, 0.0_f64..400.0, 0.0_f64..400.0), 1..8)) {
        let parts: Vec<Part> = parts.into_iter().map(|(nominal, lent, more, most, smoothed)| Part {
            limits: Limits { nominal, lower: nominal - nominal * lent / 100, upper: nominal + more, of_one: None },
            memory: Memory { most: most.round(), smoothed, ..Memory::default() },
            exempt: false,
        }).collect();
        let (given, _) = shares(&parts);
        let total: u64 = parts.iter().map(|p| p.limits.nominal).sum();
        let sum: u64 = given.iter().map(|s| s.seats).sum();
        prop_assert!(sum.abs_diff(total) <= parts.len() as u64);
        for (part, share) in parts.iter().zip(&given) {
            prop_assert!(share.seats >= part.limits.lower && share.seats <= part.limits.upper);
        }
    }
}

fn queueing_of(limit: u64) -> QueueSet<u64> {
    let shape = Shape::Queue {
        queues: 4,
        hand: 2,
        length: 3,
    };
    QueueSet::new(shape, limit, 0)
}

#[test]
fn a_level_that_makes_no_sense_is_none() {
    let level = json!({"metadata": {"name": "exempt"}, "spec": {"type": "Limited"}});
    assert!(Level::read(&Object::from_value(level).expect("an object")).is_none());
}

#[test]
fn periods_end_without_a_clock() {
    let second = 1_000 * MILLI;
    let mut demand = Demand::starting(0);
    demand.set(2 * second, 4.0);
    demand.set(7 * second, 0.0);
    // Nothing is over yet.
    assert_eq!(demand.memory(9 * second), Memory::default());
    let first = demand.memory(11 * second);
    assert_eq!(
        (first.average, first.deviation, first.most),
        (2.0, 2.0, 4.0)
    );
    assert_eq!(first.smoothed, 4.0);
    // The next four saw nothing.
    let later = demand.memory(51 * second);
    assert_eq!(
        (later.average, later.deviation, later.most),
        (0.0, 0.0, 0.0)
    );
    let expected = 4.0 * 0.977_f64.powi(4);
    assert!((later.smoothed - expected).abs() < 1e-9, "{later:?}");
    // It is the same whether somebody looks in between or not.
    let mut seen = Demand::starting(0);
    let mut unseen = Demand::starting(0);
    for at in [3, 14, 36, 37, 61] {
        seen.set(at * second, at as f64);
        unseen.set(at * second, at as f64);
    }
    for at in 62..200 {
        seen.memory(at * second);
    }
    let (a, b) = (seen.memory(200 * second), unseen.memory(200 * second));
    assert!((a.smoothed - b.smoothed).abs() < 1e-9, "{a:?} {b:?}");
    assert_eq!((a.average, a.most), (b.average, b.most));
    // A new configuration ends a period early.
    assert_eq!(unseen.cut(205 * second).average, 61.0);
}

#[test]
fn a_level_says_how_busy_it_was() {
    let shape = Shape::Queue {
        queues: 2,
        hand: 1,
        length: 5,
    };
    let mut set = QueueSet::new(shape, 2, 0);
    let Start::Execute(first) = set.start(0, Work::ONE, 1, || ()) else {
        panic!("there is a seat")
    };
    let Start::Execute(_) = set.start(100, Work::ONE, 1, || ()) else {
        panic!("there is a seat")
    };
    let Start::Wait(..) = set.start(200, Work::ONE, 1, || ()) else {
        panic!("there is none")
    };
    set.finish(300, &first);
    let usage = set.usage(1_000);
    let mut page = String::new();
    for (name, figure) in [
        ("seats", &usage.seats),
        ("demand", &usage.demand),
        ("executing", &usage.executing),
        ("waiting", &usage.waiting),
    ] {
        figure.render(&mut page, name, "x");
    }
    let sums: Vec<&str> = page.lines().filter(|l| l.contains("_sum")).collect();
    // Half for 100, all from then on; one and a half while somebody waits, who is a tenth of those that may.
    expect_test::expect![[r#"
        seats_sum{x} 950
        demand_sum{x} 1000
        executing_sum{x} 950
        waiting_sum{x} 10"#]]
    .assert_eq(&sums.join("\n"));
}
