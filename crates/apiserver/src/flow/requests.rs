//! Who is served at this moment and who waits, for people who look: the table `dump_requests`.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller_debug.go`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use access::flow::Work;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::counts::Counts;
use super::describe::{by_name, table};
use super::fairness::{Configured, Fairness, Level};
use super::{Seat, digest};
use crate::call::Call;

const HEADER: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] = [
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];

/// Go's zero time: it has not begun.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Who a request is, in the order of the details.
pub(super) type Details = [String; DETAILS.len()];

/// Who a request is.
pub(super) fn details(call: &Call) -> Details {
    let info = &call.info;
    let version = match (info.group.as_str(), info.version.as_str()) {
        ("", version) => version.to_owned(),
        (group, version) => format!("{group}/{version}"),
    };
    [
        call.user.name.clone(),
        info.verb.to_owned(),
        info.path.clone(),
        info.namespace.clone(),
        info.name.clone(),
        version,
        info.resource.clone(),
        info.subresource.clone(),
    ]
}

/// A request that has its seats.
pub(super) struct Seated {
    pub(super) level: Arc<Level>,
    pub(super) counts: Arc<Counts>,
    /// The queue that it came from, if it came from any.
    pub(super) queue: Option<usize>,
    pub(super) work: Work,
}

/// Those who are served.
#[derive(Default)]
pub(super) struct Serving(Mutex<Known>);

#[derive(Default)]
struct Known {
    next: u64,
    all: HashMap<u64, (Weak<Call>, Seated)>,
}

/// A seat of a request that is told of while it is held.
pub(crate) struct Served {
    _seat: Seat,
    entry: Option<(Arc<Fairness>, u64)>,
}

impl Served {
    /// The request has this seat.
    pub(super) fn new(fairness: Option<&Arc<Fairness>>, call: &Arc<Call>, seat: Seat) -> Self {
        let entry = match (fairness, &seat) {
            (Some(fairness), Seat::Fair(permit)) => {
                let mut known = fairness.serving.0.lock();
                let number = known.next;
                known.next += 1;
                let row = (Arc::downgrade(call), permit.seated());
                known.all.insert(number, row);
                Some((fairness.clone(), number))
            }
            _ => None,
        };
        Self { _seat: seat, entry }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((fairness, number)) = &self.entry {
            let gone = fairness.serving.0.lock().all.remove(number);
            // What it refers to is let go without the lock.
            drop(gone);
        }
    }
}

/// A line of the table.
struct Row<'a> {
    queue: Option<usize>,
    /// The place among those who wait.
    index: Option<usize>,
    schema: &'a str,
    flow: &'a str,
    work: Work,
    arrived: Timestamp,
    started: Option<Timestamp>,
    details: Option<Details>,
}

impl Row<'_> {
    fn cells(self, level: &str, detailed: bool) -> Vec<String> {
        let at = |index: Option<usize>| index.map_or_else(|| "-1".to_owned(), |i| i.to_string());
        let later = match self.work.after_nanos {
            0 => "0s".to_owned(),
            nanos => format!("{:?}", Duration::from_nanos(nanos)),
        };
        let started = self.started.map(|at| at.to_string());
        let mut cells = vec![
            level.to_owned(),
            self.schema.to_owned(),
            at(self.queue),
            at(self.index),
            self.flow.to_owned(),
            self.arrived.to_string(),
            self.work.seats.to_string(),
            self.work.after.to_string(),
            later,
            started.unwrap_or_else(|| NEVER.to_owned()),
        ];
        if detailed {
            cells.extend(self.details.unwrap_or_default());
        }
        cells
    }
}

impl Fairness {
    /// Those of every level: queue by queue who waits and who is served, then who came from no queue.
    pub(super) fn requests(&self, detailed: bool) -> String {
        let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
        if detailed {
            rows[0].extend(DETAILS.map(str::to_owned));
        }
        let current = self.current.load();
        for level in by_name(&current.levels) {
            let mut of_level = self.served(&current, level, detailed);
            for (queue, i, work, waker) in level.queues.lock().waiting() {
                let row = Row {
                    queue: Some(queue),
                    index: Some(i),
                    schema: waker.schema(),
                    flow: &waker.flow,
                    work,
                    arrived: waker.arrived,
                    started: None,
                    details: waker.details.clone(),
                };
                let place = (queue, i);
                of_level.push((place, row.cells(&level.name, detailed)));
            }
            of_level.sort_by_key(|(place, _)| *place);
            rows.extend(of_level.into_iter().map(|(_, cells)| cells));
        }
        table(&rows)
    }

    /// Those of a level that have their seats, and where they stand in the table.
    fn served(
        &self,
        current: &Configured,
        level: &Arc<Level>,
        detailed: bool,
    ) -> Vec<((usize, usize), Vec<String>)> {
        let known = self.serving.0.lock();
        let mut of_level: Vec<_> = (known.all.iter())
            .filter(|(_, (_, seated))| Arc::ptr_eq(&seated.level, level))
            .collect();
        of_level.sort_by_key(|(number, _)| **number);
        let cells = of_level.into_iter().filter_map(|(_, (call, seated))| {
            let call = call.upgrade()?;
            let digest = digest(&call);
            let schemas = current.schemas.iter();
            let mut schemas = schemas.filter(|e| e.schema.name == seated.counts.schema);
            let flow = schemas.next().map(|e| e.schema.distinguisher(&digest));
            let waited = SignedDuration::try_from(call.waited).unwrap_or_default();
            let row = Row {
                queue: seated.queue,
                index: None,
                schema: &seated.counts.schema,
                flow: flow.unwrap_or_default(),
                work: seated.work,
                arrived: call.now,
                started: Some(call.now + waited),
                details: Some(details(&call)),
            };
            let place = (seated.queue.unwrap_or(usize::MAX), usize::MAX);
            Some((place, row.cells(&level.name, detailed)))
        });
        cells.collect()
    }
}
