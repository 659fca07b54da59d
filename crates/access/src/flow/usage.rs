//! How busy a level was over time, as parts of what it has.
//!
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/metrics` and `fairqueuing/queueset`.

use machinery::metrics::Lasting;

use super::{Shape, Totals};

/// Upper ends of parts of seats; those close to one tell when a level is full.
const SEATS: [f64; 13] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
];
const REQUESTS: [f64; 10] = [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
/// What could be used may be more than there is.
const DEMAND: [f64; 12] = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// Figures over time of one level.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Seats that are taken, as a part of those of the moment.
    pub seats: Lasting,
    /// Seats that are taken or waited for, as a part of those of the moment.
    pub demand: Lasting,
    /// Requests that are served, as a part of the seats of the moment.
    pub executing: Lasting,
    /// Requests that wait, as a part of those that may.
    pub waiting: Lasting,
    seats_in_all: f64,
    room: f64,
}

impl Usage {
    pub(super) fn new(nanos: u64) -> Self {
        Self {
            seats: Lasting::new(&SEATS, nanos),
            demand: Lasting::new(&DEMAND, nanos),
            executing: Lasting::new(&REQUESTS, nanos),
            waiting: Lasting::new(&REQUESTS, nanos),
            seats_in_all: 1.0,
            room: 1.0,
        }
    }

    /// What there is, from now on. A level without seats of its own is measured by `otherwise`.
    pub(super) fn measure_by(&mut self, shape: Shape, seats: u64, otherwise: u64) {
        self.seats_in_all = if seats > 0 { seats } else { otherwise.max(1) } as f64;
        self.room = match shape {
            Shape::Queue { queues, length, .. } => queues as f64 * length as f64,
            Shape::Exempt | Shape::Reject => 1.0,
        };
    }

    pub(super) fn note(&mut self, nanos: u64, totals: &Totals) {
        let part = |of: u64| of as f64 / self.seats_in_all;
        self.seats.set(nanos, part(totals.seats));
        let demand = part(totals.seats + totals.seats_waiting);
        self.demand.set(nanos, demand);
        self.executing.set(nanos, part(totals.executing as u64));
        let waiting = totals.waiting as f64 / self.room;
        self.waiting.set(nanos, waiting);
    }
}
