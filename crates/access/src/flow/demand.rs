//! How many seats a level could have used in periods of ten seconds: average, deviation and peak of the last one, and what
//! stays of those before.
//!
//! No clock ticks for that: when something changes or somebody looks, the periods that have passed since are closed, all
//! but the first of which saw nothing change.
//!
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/integrator.go` and `apf_controller.go` (`seatDemandStats`).

/// A period, in nanoseconds.
pub const PERIOD: u64 = 10_000_000_000;
/// How much of the smoothed demand stays after a period: half of it after five minutes.
const SMOOTHING: f64 = 0.977;

/// Sums up a figure over time.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    now: f64,
    since: u64,
    /// The beginning of this period.
    began: u64,
    sum: f64,
    squares: f64,
    most: f64,
    memory: Memory,
}

/// What is remembered of the periods that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// The mean over time of the last period.
    pub average: f64,
    /// The standard deviation over time of the last period.
    pub deviation: f64,
    /// The peak of the last period.
    pub most: f64,
    /// The demand over a longer while.
    pub smoothed: f64,
}

impl Memory {
    /// Adds so many periods that were all alike.
    fn note(&mut self, average: f64, deviation: f64, periods: u64) {
        self.average = average;
        self.deviation = deviation;
        let envelope = average + deviation;
        // Rising at once, falling by a part in each period.
        let stays = SMOOTHING.powf(periods as f64);
        let fallen = envelope + stays * (self.smoothed - envelope);
        self.smoothed = envelope.max(fallen);
    }
}

impl Demand {
    /// Nothing is wanted from now on.
    pub fn starting(nanos: u64) -> Self {
        Self {
            since: nanos,
            began: nanos,
            ..Self::default()
        }
    }

    /// From now on it is this.
    pub fn set(&mut self, nanos: u64, value: f64) {
        self.pass(nanos);
        self.now = value;
        self.most = self.most.max(value);
    }

    /// What was seen until the end of the last period.
    pub fn memory(&mut self, nanos: u64) -> Memory {
        self.pass(nanos);
        self.memory
    }

    /// Ends this period before its time, and gives what was seen.
    pub fn cut(&mut self, nanos: u64) -> Memory {
        self.pass(nanos);
        self.close(nanos);
        self.memory
    }

    fn add(&mut self, nanos: u64) {
        let passed = nanos.saturating_sub(self.since) as f64 / 1e9;
        self.sum += self.now * passed;
        self.squares += self.now * self.now * passed;
        self.since = nanos.max(self.since);
    }

    fn pass(&mut self, nanos: u64) {
        if nanos.saturating_sub(self.began) >= PERIOD {
            self.close(self.began + PERIOD);
            let more = (nanos - self.began) / PERIOD;
            if more > 0 {
                self.memory.note(self.now, 0.0, more);
                self.memory.most = self.now.round();
                self.began += more * PERIOD;
                self.since = self.began;
            }
        }
        self.add(nanos);
    }

    fn close(&mut self, nanos: u64) {
        self.add(nanos);
        let seconds = self.since.saturating_sub(self.began) as f64 / 1e9;
        self.memory.most = self.most.round();
        if seconds > 0.0 {
            let average = self.sum / seconds;
            let variance = self.squares / seconds - average * average;
            (self.memory).note(average, variance.max(0.0).sqrt(), 1);
        }
        *self = Self {
            now: self.now,
            since: self.since,
            began: self.since,
            most: self.now,
            memory: self.memory,
            ..Self::default()
        };
    }
}
