//! Levels without a server around them: for tests, and for the benchmark that says what a free seat costs.

use std::time::{Duration, Instant};

use access::User;
use access::flow::{Digest, Level as Spec, Schema, Work};

use super::fairness::{Configured, Fairness};
use super::permit::{Arrival, Kind};

/// What a seat costs a request that finds one free, schema and flow looked up: the mean of so many, one after the other.
/// `None` when there was none.
pub async fn seat_cost(times: u32) -> Option<Duration> {
    let fairness = standing(600);
    let jane = User::new("jane", &["system:authenticated"]);
    let began = Instant::now();
    for _ in 0..times {
        let current = fairness.current.load();
        let arrival = arrival(&current, &digest(&jane), Duration::ZERO);
        drop(arrival.seat().await.ok()?);
    }
    Some(began.elapsed() / times)
}

/// The levels and schemas that every cluster has.
pub(super) fn standing(seats: u64) -> Fairness {
    let fairness = Fairness::new(seats, Duration::from_secs(5));
    let objects = access::bootstrap::flow_control();
    let schemas = objects.iter().filter(|o| o.kind() == "FlowSchema");
    let levels = objects.iter().filter_map(Spec::read);
    fairness.configure_with(schemas.map(Schema::read).collect(), levels.collect());
    fairness
}

/// A request at the door of the level that it belongs to.
pub(super) fn arrival<'a>(
    current: &'a Configured,
    digest: &Digest<'a>,
    patience: Duration,
) -> Arrival<'a> {
    let found = current.schemas.iter().find(|e| e.schema.fits(digest));
    let found = found.expect("a schema fits every request");
    Arrival {
        level: &found.level,
        counts: &found.counts,
        work: Work::ONE,
        hash: 7,
        flow: found.schema.distinguisher(digest),
        kind: Kind {
            watch: false,
            reads: true,
        },
        call: None,
        patience,
    }
}

/// A request of this user, as flow schemas see it.
pub(super) fn digest(user: &User) -> Digest<'_> {
    Digest {
        user,
        verb: "get",
        is_resource: true,
        path: "",
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "a",
    }
}
