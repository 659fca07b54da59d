//! Probes: when the next one is due and what their results mean.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

/// The three probes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Until it succeeds nothing else is probed; failing for long restarts the container.
    Startup,
    /// Failing restarts the container.
    Liveness,
    /// Failing takes the pod out of its services.
    Readiness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

    /// The word at the start of events.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// The probe of this kind in a container.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What is known of one probe of one running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// The last result and how often it came in a row.
    run: Option<(bool, i32)>,
    /// What holds: reached its threshold. `None` until then.
    pub verdict: Option<bool>,
    /// When the last one began.
    pub last: Option<Timestamp>,
    /// One is running.
    pub running: bool,
    /// Enough is known about this container.
    pub on_hold: bool,
}

impl ProbeState {
    /// Takes a result in; true if the verdict changed.
    pub fn observe(&mut self, kind: Kind, probe: &Probe, success: bool) -> bool {
        let count = match self.run {
            Some((same, count)) if same == success => count + 1,
            _ => 1,
        };
        self.run = Some((success, count));
        let threshold = if success {
            probe.success_threshold.unwrap_or(1)
        } else {
            probe.failure_threshold.unwrap_or(3)
        };
        if count < threshold.max(1) {
            return false;
        }
        if kind == Kind::Startup || (kind == Kind::Liveness && !success) {
            self.on_hold = true;
            self.run = None;
        }
        self.verdict.replace(success) != Some(success)
    }

    /// When the next probe is due, if ever.
    pub fn due(&self, probe: &Probe, started_at: Timestamp) -> Option<Timestamp> {
        if self.on_hold || self.running {
            return None;
        }
        let delay = i64::from(probe.initial_delay_seconds.unwrap_or(0));
        let first = crate::pod::after(started_at, delay);
        let Some(last) = self.last else {
            return Some(first);
        };
        let period = i64::from(probe.period_seconds.unwrap_or(10).max(1));
        Some(crate::pod::after(last, period).max(first))
    }
}
