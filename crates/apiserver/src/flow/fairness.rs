//! The levels and schemas of the moment, and the way of a request through them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use access::Lookup;
use access::flow::share::{Part, Share, shares};
use access::flow::{
    CATCH_ALL, Dropped, EXEMPT, Level as Spec, Limits, Memory, PERIOD, QueueSet, Schema, Shape,
};
use access::flow::{Work, estimate};
use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;

use super::counts::Counts;
use super::flows::Flows;
use super::permit::{Arrival, Kind, Permit, Queues, serve};
use super::requests::Serving;
use super::watchers::Watchers;
use super::{Refusal, digest, too_many};
use crate::call::Call;
use crate::server::Server;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// No request waits longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many objects of a resource tell how large one is.
const SAMPLE: usize = 4;

/// Priority and fairness.
pub(crate) struct Fairness {
    seats: u64,
    patience: Duration,
    born: Instant,
    pub(super) current: ArcSwap<Configured>,
    /// When the period began whose demand is not known yet, in nanoseconds since the beginning.
    lent: AtomicU64,
    lending: Mutex<f64>,
    pub(crate) watchers: Watchers,
    pub(super) serving: Serving,
    pub(super) flows: Arc<Flows>,
}

/// Schemas in the order in which they are tried, and levels by name.
#[derive(Default)]
pub(super) struct Configured {
    pub(super) schemas: Vec<Entry>,
    pub(super) levels: Vec<Arc<Level>>,
}

/// A schema at work.
pub(super) struct Entry {
    pub(super) schema: Schema,
    pub(super) level: Arc<Level>,
    pub(super) counts: Arc<Counts>,
    /// The UIDs of schema and level, for the answer.
    uids: (HeaderValue, HeaderValue),
}

/// A level at work.
pub(super) struct Level {
    pub(super) name: String,
    pub(super) exempt: bool,
    born: Instant,
    pub(super) queues: Queues,
    /// Reading and writing of all levels.
    pub(super) flows: Arc<Flows>,
    /// Seats that one request takes at most; nothing when it is zero.
    of_one: AtomicU64,
    pub(super) standing: Mutex<Standing>,
    dropped: Mutex<Dropped>,
}

/// What is known of a level beside its queues.
pub(super) struct Standing {
    spec: Spec,
    pub(super) limits: Limits,
    pub(super) memory: Memory,
    pub(super) share: Share,
}

impl Level {
    fn new(spec: Spec, limits: Limits, of: &Fairness) -> Self {
        let born = of.born;
        let nanos = Instant::now().duration_since(born).as_nanos() as u64;
        let queues = QueueSet::new(spec.shape, limits.initial(), nanos);
        // As upstream measures a level that has none: by a tenth of the server's.
        let otherwise = (of.seats as f64 / 10.0).round() as u64;
        Self {
            flows: of.flows.clone(),
            name: spec.name.clone(),
            exempt: spec.name == EXEMPT,
            born,
            queues: Mutex::new(queues.measured_by(otherwise)),
            of_one: AtomicU64::new(0),
            standing: Mutex::new(Standing {
                spec,
                limits,
                memory: Memory::default(),
                share: Share::default(),
            }),
            dropped: Mutex::default(),
        }
    }

    /// A moment as the queues count it.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.born).as_nanos() as u64
    }

    fn of_one(&self) -> Option<u64> {
        Some(self.of_one.load(Relaxed)).filter(|seats| *seats > 0)
    }
}

impl Fairness {
    /// With so many seats in all; a request waits no longer than `patience`.
    pub(super) fn new(seats: u64, patience: Duration) -> Self {
        let this = Self {
            seats,
            patience: patience.min(PATIENCE),
            born: Instant::now(),
            current: ArcSwap::default(),
            lent: AtomicU64::new(0),
            lending: Mutex::new(0.0),
            watchers: Watchers::default(),
            serving: Serving::default(),
            flows: Arc::default(),
        };
        this.configure_with(Vec::new(), Vec::new());
        this
    }

    /// Follows the objects.
    pub(super) fn configure(&self, server: &Server) {
        let schemas = server.list(GROUP, "flowschemas", "");
        let levels = server.list(GROUP, "prioritylevelconfigurations", "");
        self.configure_with(
            schemas.iter().map(|o| Schema::read(o)).collect(),
            levels.iter().filter_map(|o| Spec::read(o)).collect(),
        );
    }

    pub(super) fn configure_with(&self, mut schemas: Vec<Schema>, mut specs: Vec<Spec>) {
        let lending = self.lending.lock();
        for name in [EXEMPT, CATCH_ALL] {
            if !specs.iter().any(|spec| spec.name == name) {
                specs.push(Spec::imagined(name));
            }
        }
        schemas.sort_by(|a, b| a.order().cmp(&b.order()));
        let old = self.current.load();
        let limits = Spec::limits(&specs, self.seats);
        let seats: u64 = limits.iter().map(|limits| limits.nominal).sum();
        let room = |spec: &Spec| match spec.shape {
            Shape::Queue { queues, length, .. } => queues * length,
            Shape::Exempt | Shape::Reject => 0,
        };
        let room: usize = specs.iter().map(room).sum();
        self.flows.measure_by(self.nanos(), room as u64, seats);
        let levels: Vec<Arc<Level>> = specs
            .into_iter()
            .zip(limits)
            .map(|(spec, limits)| self.level(&old, spec, limits))
            .collect();
        let by_name: HashMap<&str, &Arc<Level>> =
            levels.iter().map(|l| (l.name.as_str(), l)).collect();
        let entries = schemas.into_iter().filter_map(|schema| {
            let level = (*by_name.get(schema.level.as_str())?).clone();
            let uid = level.standing.lock().spec.uid.clone();
            let before = (old.schemas.iter())
                .find(|e| e.schema.name == schema.name && e.level.name == level.name);
            let counts = before.map(|e| e.counts.clone());
            let value =
                |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
            Some(Entry {
                counts: counts.unwrap_or_else(|| Arc::new(Counts::new(&level.name, &schema.name))),
                uids: (value(&schema.uid), value(&uid)),
                schema,
                level,
            })
        });
        let schemas = entries.collect();
        self.current.store(Arc::new(Configured { schemas, levels }));
        drop(lending);
        self.lend(true);
    }

    /// This moment as the queues count it.
    pub(super) fn nanos(&self) -> u64 {
        self.born.elapsed().as_nanos() as u64
    }

    /// The level of this name, with those who are there already.
    fn level(&self, old: &Configured, spec: Spec, limits: Limits) -> Arc<Level> {
        let before = old.levels.iter().find(|l| l.name == spec.name);
        let level = match before {
            None => Arc::new(Level::new(spec, limits, self)),
            Some(level) => {
                let mut standing = level.standing.lock();
                let shape = spec.shape;
                standing.spec = spec;
                standing.limits = limits;
                drop(standing);
                let mut queues = level.queues.lock();
                let seats = queues.limit();
                let woken = queues.configure(shape, seats, level.nanos(Instant::now()));
                drop(queues);
                serve(level, woken);
                level.clone()
            }
        };
        level.of_one.store(limits.of_one.unwrap_or(0), Relaxed);
        level
    }

    /// Lends seats between levels, by what each could have used in the periods that are over; with new levels, in what there
    /// was of this one.
    fn lend(&self, anew: bool) {
        let mut multiple = self.lending.lock();
        let nanos = self.nanos();
        let lent = self.lent.load(Relaxed);
        let periods = nanos.saturating_sub(lent) / PERIOD;
        if !anew && periods == 0 {
            // Somebody was faster.
            return;
        }
        let lent = if anew { nanos } else { lent + periods * PERIOD };
        self.lent.store(lent, Relaxed);
        let current = self.current.load();
        let parts: Vec<Part> = current
            .levels
            .iter()
            .map(|level| {
                let demand = &mut level.queues.lock().demand;
                let memory = match anew {
                    true => demand.cut(nanos),
                    false => demand.memory(nanos),
                };
                let mut standing = level.standing.lock();
                standing.memory = memory;
                Part {
                    limits: standing.limits,
                    memory: standing.memory,
                    exempt: level.exempt,
                }
            })
            .collect();
        let (given, times) = shares(&parts);
        *multiple = times;
        drop(multiple);
        for (level, share) in current.levels.iter().zip(given) {
            let mut standing = level.standing.lock();
            standing.share = share;
            let shape = standing.spec.shape;
            drop(standing);
            // A level without any seat would never serve who waits there.
            let seats = share.seats.max(u64::from(!level.exempt));
            let woken = level.queues.lock().configure(shape, seats, nanos);
            serve(level, woken);
        }
    }

    /// Which multiple of their targets the levels were given last.
    pub(super) fn multiple(&self) -> f64 {
        *self.lending.lock()
    }

    /// A place for a request.
    ///
    /// # Errors
    /// 429.
    pub(super) async fn enter(&self, call: &mut Call) -> Result<Permit, Refusal> {
        let now = Instant::now();
        let since = now.duration_since(self.born).as_nanos() as u64;
        if since.saturating_sub(self.lent.load(Relaxed)) >= PERIOD {
            self.lend(false);
        }
        let current = self.current.load_full();
        let digest = digest(call);
        let found = current.schemas.iter().find(|e| e.schema.fits(&digest));
        // Whatever fits nothing belongs to the last of all.
        let found = found.or_else(|| current.schemas.iter().find(|e| e.schema.name == CATCH_ALL));
        let Some(found) = found.or(current.schemas.last()) else {
            return self.without_schemas(&current).await;
        };
        let flow = found.schema.distinguisher(&digest);
        let mut hasher = DefaultHasher::new();
        (&found.schema.name, flow).hash(&mut hasher);
        let level = &found.level;
        let arrival = Arrival {
            level,
            counts: &found.counts,
            work: self.work(call, level, &found.counts),
            hash: hasher.finish(),
            flow,
            kind: Kind {
                watch: call.info.verb == "watch",
                reads: matches!(call.info.verb, "get" | "list" | "watch"),
            },
            call: Some(&*call),
            patience: self.patience.min(call.timeout / 4),
        };
        let seated = arrival.seat().await;
        call.waited = now.elapsed();
        call.flow = Some(found.uids.clone());
        seated.map_err(|_| {
            let second = jiff::Timestamp::now().as_second();
            Refusal::Answer(too_many(level.dropped.lock().note(second)))
        })
    }

    /// Before the first schema is there, everything is exempt.
    async fn without_schemas(&self, current: &Configured) -> Result<Permit, Refusal> {
        let exempt = current.levels.iter().find(|l| l.exempt);
        let level = exempt.unwrap_or(&current.levels[0]);
        let arrival = Arrival {
            level,
            counts: &Arc::new(Counts::new(&level.name, "")),
            work: Work::ONE,
            hash: 0,
            flow: "",
            kind: Kind {
                watch: false,
                reads: true,
            },
            call: None,
            patience: self.patience,
        };
        arrival
            .seat()
            .await
            .map_err(|_| Refusal::Answer(too_many(1)))
    }

    /// How much of the server a request takes.
    fn work(&self, call: &Call, level: &Level, counts: &Counts) -> Work {
        let info = &call.info;
        match info.verb {
            "list" => listing(call, level),
            "watch" => {
                let from = call.query.text("resourceVersion");
                let initial = call.query.flag("sendInitialEvents");
                match initial || matches!(from, "" | "0") {
                    true => listing(call, level),
                    false => Work::ONE,
                }
            }
            "create" | "update" | "patch" | "delete" => {
                if info.resource == "serviceaccounts" && info.subresource == "token" {
                    return Work::ONE;
                }
                let watchers = self.watchers.interested(info);
                counts.watchers.note(watchers as f64);
                estimate::change(watchers, level.of_one())
            }
            _ => Work::ONE,
        }
    }
}

/// The work of reading many objects.
fn listing(call: &Call, level: &Level) -> Work {
    let info = &call.info;
    if !info.is_resource || !info.name.is_empty() {
        return Work::ONE;
    }
    let resource = (call.server.resources()).get(&info.group, &info.version, &info.resource);
    let Some(storage) = resource.as_ref().and_then(|r| r.storage("list").ok()) else {
        return Work::ONE;
    };
    let (objects, average) = storage.cache.measure(SAMPLE);
    let limit = call.query.integer("limit").ok().flatten();
    let limit = limit.and_then(|limit| limit.try_into().ok());
    estimate::list(objects, average, limit, level.of_one())
}
