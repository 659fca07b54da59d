//! How much of a server a request takes.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/request`.

/// A list is read by this much for each seat.
const BYTES_PER_SEAT: u64 = 100_000;
/// Lists are streamed: never more is held at once.
const LIST_BYTES: u64 = 1_000_000;
const LIST_SEATS: u64 = 100;
const MUTATING_SEATS: u64 = 10;
const WATCHES_PER_SEAT: u64 = 10;
/// How long the watchers of a seat are busy with a change.
const CHANGE_NANOS: u64 = 5_000_000;
/// How long a request is thought to take before anybody knows.
pub(super) const SERVICE_SECONDS: f64 = 0.003;

/// The work of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Seats while it is served.
    pub seats: u64,
    /// Seats after that, while others hear of what it did.
    pub after: u64,
    /// For how long, in nanoseconds.
    pub after_nanos: u64,
}

impl Work {
    /// One seat and nothing afterwards.
    pub const ONE: Self = Self {
        seats: 1,
        after: 0,
        after_nanos: 0,
    };

    /// The seats that must be free.
    pub fn most(&self) -> u64 {
        self.seats.max(self.after)
    }

    /// All of it in seat-seconds.
    pub(super) fn total(&self) -> f64 {
        self.initial() + self.after as f64 * self.after_nanos as f64 / 1e9
    }

    pub(super) fn initial(&self) -> f64 {
        self.seats as f64 * SERVICE_SECONDS
    }
}

fn most(of_one: Option<u64>, limit: u64) -> u64 {
    of_one.map_or(limit, |most| most.min(limit)).max(1)
}

/// The work of a list of so many objects of about so many bytes, or of the beginning of a watch that lists.
pub fn list(objects: u64, average_bytes: u64, limit: Option<u64>, of_one: Option<u64>) -> Work {
    let objects = limit.filter(|l| *l > 0).map_or(objects, |l| l.min(objects));
    let bytes = objects.saturating_mul(average_bytes).min(LIST_BYTES);
    let seats = bytes
        .div_ceil(BYTES_PER_SEAT)
        .clamp(1, most(of_one, LIST_SEATS));
    Work { seats, ..Work::ONE }
}

/// The work of a change that so many watchers hear of.
pub fn change(watchers: u64, of_one: Option<u64>) -> Work {
    if watchers < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let wanted = watchers.div_ceil(WATCHES_PER_SEAT);
    let seats = wanted.min(most(of_one, MUTATING_SEATS));
    Work {
        seats: 1,
        after: seats,
        after_nanos: wanted.saturating_mul(CHANGE_NANOS) / seats,
    }
}
