//! How many seats a level could have used over a while: average, deviation and peak.

/// Sums up a figure over time.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    now: f64,
    since: u64,
    began: u64,
    sum: f64,
    squares: f64,
    most: f64,
}

/// What was seen over a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// The mean over time.
    pub average: f64,
    /// The standard deviation over time.
    pub deviation: f64,
    /// The greatest.
    pub most: f64,
    /// Over how many seconds.
    pub seconds: f64,
}

impl Demand {
    /// From now on it is this.
    pub fn set(&mut self, nanos: u64, value: f64) {
        let passed = nanos.saturating_sub(self.since) as f64 / 1e9;
        self.sum += self.now * passed;
        self.squares += self.now * self.now * passed;
        self.since = nanos.max(self.since);
        self.now = value;
        self.most = self.most.max(value);
    }

    /// What was seen since the last time, and begins anew.
    pub fn take(&mut self, nanos: u64) -> Observed {
        self.set(nanos, self.now);
        let seconds = self.since.saturating_sub(self.began) as f64 / 1e9;
        let (average, variance) = match seconds > 0.0 {
            true => {
                let average = self.sum / seconds;
                (average, self.squares / seconds - average * average)
            }
            false => (self.now, 0.0),
        };
        let observed = Observed {
            average,
            deviation: variance.max(0.0).sqrt(),
            most: self.most,
            seconds,
        };
        *self = Self {
            now: self.now,
            since: self.since,
            began: self.since,
            most: self.now,
            ..Self::default()
        };
        observed
    }
}
