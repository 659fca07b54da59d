//! How many requests that read and that write wait and are served, over time.
//!
//! Upstream: `k8s.io/apiserver/pkg/server/filters/{priority-and-fairness,maxinflight}.go`.

use machinery::metrics::Lasting;
use parking_lot::Mutex;

use super::describe::lasting_head;

const ENDS: [f64; 15] = [
    0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
];
/// By [`index`].
const LABELS: [&str; 4] = [
    "phase=\"executing\",request_kind=\"mutating\"",
    "phase=\"executing\",request_kind=\"readOnly\"",
    "phase=\"waiting\",request_kind=\"mutating\"",
    "phase=\"waiting\",request_kind=\"readOnly\"",
];

/// Reading and writing, of all levels together.
pub(super) struct Flows(Mutex<[Flow; 4]>);

/// Requests of one kind in one phase.
struct Flow {
    count: i64,
    of: f64,
    part: Lasting,
}

impl Flow {
    fn add(&mut self, nanos: u64, delta: i64) {
        self.count += delta;
        self.part.set(nanos, self.count as f64 / self.of);
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self(Mutex::new(std::array::from_fn(|_| Flow {
            count: 0,
            of: 1.0,
            part: Lasting::new(&ENDS, 0),
        })))
    }
}

fn index(waiting: bool, reads: bool) -> usize {
    2 * usize::from(waiting) + usize::from(reads)
}

impl Flows {
    /// From now on so many may wait and so many may be served.
    pub(super) fn measure_by(&self, nanos: u64, waiting: u64, executing: u64) {
        for (i, flow) in self.0.lock().iter_mut().enumerate() {
            let of = if i < index(true, false) {
                executing
            } else {
                waiting
            };
            flow.of = of.max(1) as f64;
            flow.add(nanos, 0);
        }
    }

    /// So many more are served.
    pub(super) fn executing(&self, nanos: u64, reads: bool, delta: i64) {
        self.0.lock()[index(false, reads)].add(nanos, delta);
    }

    /// So many more wait.
    pub(super) fn waiting(&self, nanos: u64, reads: bool, delta: i64) {
        self.0.lock()[index(true, reads)].add(nanos, delta);
    }

    /// Adds to the page at `/metrics`.
    pub(super) fn render(&self, out: &mut String, nanos: u64) {
        let name = "apiserver_flowcontrol_read_vs_write_current_requests";
        let help = "Observations, at the end of every nanosecond, of the number of requests (as a fraction of the relevant limit) waiting or in regular stage of execution";
        lasting_head(out, name, help);
        let mut flows = self.0.lock();
        for (flow, labels) in flows.iter_mut().zip(LABELS) {
            flow.add(nanos, 0);
            flow.part.render(out, name, labels);
        }
    }
}
