//! What people who look get to see: figures at `/metrics`, and the tables below `/debug/api_priority_and_fairness`.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/{metrics,apf_controller_debug.go}`.

use std::sync::Arc;

use access::flow::Usage;
use machinery::metrics::Lasting;

use super::counts;
use super::fairness::{Fairness, Level};
use crate::metrics::{head, line};

type Figure = fn(&Level) -> f64;
/// Name, help, and of each level the figure with what is told of it beside its level.
type OverTime = (&'static str, &'static str, &'static [Part]);
type Part = (&'static str, fn(&Usage) -> &Lasting);

const OVER_TIME: [OverTime; 3] = [
    (
        "demand_seats",
        "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)",
        &[("", |usage| &usage.demand)],
    ),
    (
        "priority_level_request_utilization",
        "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)",
        &[
            ("phase=\"executing\",", |usage| &usage.executing),
            ("phase=\"waiting\",", |usage| &usage.waiting),
        ],
    ),
    (
        "priority_level_seat_utilization",
        "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)",
        &[("phase=\"executing\",", |usage| &usage.seats)],
    ),
];

/// What stands before figures over time; upstream calls them experimental.
pub(super) fn lasting_head(out: &mut String, name: &str, help: &str) {
    out.push_str(&format!(
        "# HELP {name} EXPERIMENTAL: [ALPHA] {help}\n# TYPE {name} histogram\n"
    ));
}

impl Fairness {
    /// Adds to the page at `/metrics`.
    pub(crate) fn render(&self, out: &mut String) {
        let current = self.current.load_full();
        let all: Vec<_> = current.schemas.iter().map(|e| &*e.counts).collect();
        counts::render(out, &all);
        let figures: [(&str, &str, &str, Figure); 11] = [
            (
                "nominal_limit_seats",
                "BETA",
                "Nominal number of execution seats configured for each priority level",
                |l| l.standing.lock().limits.nominal as f64,
            ),
            (
                "lower_limit_seats",
                "ALPHA",
                "Configured lower bound on number of execution seats available to each priority level",
                |l| l.standing.lock().limits.lower as f64,
            ),
            (
                "upper_limit_seats",
                "ALPHA",
                "Configured upper bound on number of execution seats available to each priority level",
                |l| l.standing.lock().limits.upper as f64,
            ),
            (
                "current_limit_seats",
                "ALPHA",
                "current derived number of execution seats available to each priority level",
                |l| l.queues.lock().limit() as f64,
            ),
            ("target_seats", "ALPHA", "Seat allocation targets", |l| {
                l.standing.lock().share.target
            }),
            (
                "demand_seats_high_watermark",
                "ALPHA",
                "High watermark, over last adjustment period, of demand_seats",
                |l| l.standing.lock().memory.most,
            ),
            (
                "demand_seats_average",
                "ALPHA",
                "Time-weighted average, over last adjustment period, of demand_seats",
                |l| l.standing.lock().memory.average,
            ),
            (
                "demand_seats_stdev",
                "ALPHA",
                "Time-weighted standard deviation, over last adjustment period, of demand_seats",
                |l| l.standing.lock().memory.deviation,
            ),
            (
                "demand_seats_smoothed",
                "ALPHA",
                "Smoothed seat demands",
                |l| l.standing.lock().memory.smoothed,
            ),
            ("current_r", "ALPHA", "R(time of last change)", |l| {
                l.queues.lock().virtual_time()
            }),
            ("dispatch_r", "ALPHA", "R(time of last dispatch)", |l| {
                l.queues.lock().dispatched_at()
            }),
        ];
        let levels = by_name(&current.levels);
        for (name, stability, help, of) in figures {
            let name = format!("apiserver_flowcontrol_{name}");
            head(out, &name, "gauge", stability, help);
            for level in &levels {
                let labels = format!("priority_level=\"{}\"", level.name);
                line(out, &name, &labels, of(level));
            }
        }
        let fair = "apiserver_flowcontrol_seat_fair_frac";
        let help = "Fair fraction of server's concurrency to allocate to each priority level that can use it";
        head(out, fair, "gauge", "ALPHA", help);
        out.push_str(&format!("{fair} {}\n", self.multiple()));
        self.render_over_time(out, &levels);
    }

    fn render_over_time(&self, out: &mut String, levels: &[&Arc<Level>]) {
        let nanos = self.nanos();
        let usage = |level: &Arc<Level>| level.queues.lock().usage(nanos);
        let all: Vec<Usage> = levels.iter().map(|level| usage(level)).collect();
        for (name, help, parts) in OVER_TIME {
            let name = format!("apiserver_flowcontrol_{name}");
            lasting_head(out, &name, help);
            for (label, of) in parts {
                for (level, usage) in levels.iter().zip(&all) {
                    let labels = format!("{label}priority_level=\"{}\"", level.name);
                    of(usage).render(out, &name, &labels);
                }
            }
        }
        self.flows.render(out, nanos);
    }

    /// One of the tables, with details of requests or without; none of another name.
    pub(crate) fn dump(&self, name: &str, detailed: bool) -> Option<String> {
        match name {
            "dump_priority_levels" => Some(self.levels()),
            "dump_queues" => Some(self.queues()),
            "dump_requests" => Some(self.requests(detailed)),
            _ => None,
        }
    }

    fn levels(&self) -> String {
        let header = [
            "PriorityLevelName",
            "ActiveQueues",
            "IsIdle",
            "IsQuiescing",
            "WaitingRequests",
            "ExecutingRequests",
            "DispatchedRequests",
            "RejectedRequests",
            "TimedoutRequests",
            "CancelledRequests",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for level in by_name(&self.current.load().levels) {
            let queues = level.queues.lock();
            let totals = queues.totals();
            let active = queues
                .describe()
                .filter(|(waiting, ..)| *waiting > 0)
                .count();
            rows.push(vec![
                level.name.clone(),
                active.to_string(),
                (totals.waiting + totals.executing == 0).to_string(),
                "false".to_owned(),
                totals.waiting.to_string(),
                totals.executing.to_string(),
                totals.dispatched.to_string(),
                totals.rejected.to_string(),
                "0".to_owned(),
                totals.cancelled.to_string(),
            ]);
        }
        table(&rows)
    }

    fn queues(&self) -> String {
        let header = [
            "PriorityLevelName",
            "Index",
            "PendingRequests",
            "ExecutingRequests",
            "SeatsInUse",
            "NextDispatchR",
            "InitialSeatsSum",
            "MaxSeatsSum",
            "TotalWorkSum",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for level in by_name(&self.current.load().levels) {
            for (i, queue) in level.queues.lock().describe().enumerate() {
                let (waiting, executing, seats, next, seats_waiting, work) = queue;
                rows.push(vec![
                    level.name.clone(),
                    i.to_string(),
                    waiting.to_string(),
                    executing.to_string(),
                    seats.to_string(),
                    format!("{next:.8}ss"),
                    seats_waiting.to_string(),
                    seats_waiting.to_string(),
                    format!("{work:.8}ss"),
                ]);
            }
        }
        table(&rows)
    }
}

pub(super) fn by_name(levels: &[Arc<Level>]) -> Vec<&Arc<Level>> {
    let mut levels: Vec<_> = levels.iter().collect();
    levels.sort_by(|a, b| a.name.cmp(&b.name));
    levels
}

/// Columns that are as wide as they need to be, with commas.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count() + 1).max();
        (longest.unwrap_or(0) + 1).max(8)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            match i + 1 == row.len() {
                true => out.push_str(cell),
                false => out.push_str(&format!("{:1$}", format!("{cell},"), widths[i])),
            }
        }
        out.push('\n');
    }
    out
}
