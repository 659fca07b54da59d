//! Audit: what is written down of requests, and where to.
//!
//! A request's [`Trail`] asks the policy (`access::audit`) how much is wanted, collects it on the way, and hands an event to every back end
//! at each stage. A back end that works in batches takes events into a queue with a bound and loses what comes beyond it,
//! counted; one that blocks writes before the request goes on. Behaviour: `k8s.io/apiserver/pkg/audit`,
//! `.../plugin/pkg/audit`.

mod log;
mod queue;
#[cfg(test)]
mod tests;
mod trail;
mod webhook;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use access::audit::{Event, Level, Policy, Stage};
use parking_lot::Mutex;

use crate::metrics::{head, line};

pub(crate) use log::LogFile;
use queue::Queue;
pub(crate) use trail::{Ending, PeerAddress, Trail};
use webhook::Webhook;

/// What an operator wants to have written down.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// How much of which requests; nothing is written without it.
    pub policy: Option<Policy>,
    /// A file.
    pub log: Option<LogOptions>,
    /// A server elsewhere.
    pub webhook: Option<WebhookOptions>,
}

/// A server elsewhere that takes events.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Who it is.
    pub kubeconfig: PathBuf,
    /// The pause after the first try that failed; each further one is longer.
    pub initial_backoff: Duration,
    /// No more bytes at once, if it can be helped.
    pub max_batch_bytes: Option<usize>,
    /// How events get there.
    pub delivery: Delivery,
}

/// A file of events.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Where; none: the standard output.
    pub path: Option<PathBuf>,
    /// A line of JSON an event, or one for people.
    pub json: bool,
    /// A file of this many bytes is put aside for a new one; 0: never.
    pub max_bytes: u64,
    /// Files put aside go after this many days; 0: never.
    pub max_age_days: u64,
    /// So many files put aside are kept; 0: all.
    pub max_backups: usize,
    /// Files put aside are compressed.
    pub compress: bool,
    /// How events get there.
    pub delivery: Delivery,
}

/// How events get to a back end.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whether requests wait.
    pub mode: DeliveryMode,
    /// Batches, for those who take them.
    pub batch: Batch,
    /// An event longer than this loses its bodies, or is left out.
    pub max_event_bytes: Option<usize>,
}

/// Whether requests wait for their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// No: events queue up.
    Batch,
    /// Yes.
    Blocking,
    /// Yes, and what cannot be written down when it arrives is refused.
    BlockingStrict,
}

/// How events queue up.
#[derive(Clone, Debug)]
pub struct Batch {
    /// No more wait than these.
    pub buffer: usize,
    /// No more go at once.
    pub max_size: usize,
    /// None waits longer for others.
    pub max_wait: Duration,
    /// Batches a second, and how many may go at once after a pause.
    pub throttle: Option<(f64, u32)>,
}

/// The audit of one server.
pub(crate) struct Audit {
    policy: Policy,
    backends: Vec<Backend>,
    counts: Arc<Counts>,
}

/// Somewhere events go.
struct Backend {
    delivery: Delivery,
    target: Arc<Target>,
    queue: Option<Queue>,
}

/// The far end.
enum Target {
    Log(LogFile),
    Webhook(Webhook),
}

impl Target {
    fn name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Webhook(_) => "webhook",
        }
    }

    /// How many batches it takes at a time. Upstream sets webhooks no bound but the throttle, which may be off.
    fn at_once(&self) -> usize {
        match self {
            Self::Log(_) => 1,
            Self::Webhook(_) => 64,
        }
    }

    /// Writes events, all or nothing as far as it can be told.
    ///
    /// # Errors
    /// They are not written.
    async fn send(&self, events: &[Arc<Event>]) -> Result<(), String> {
        match self {
            Self::Log(file) => file.write(events).map_err(|error| error.to_string()),
            Self::Webhook(webhook) => webhook.send(events).await,
        }
    }
}

/// What has been counted, under upstream's names.
#[derive(Default)]
pub(crate) struct Counts {
    events: AtomicU64,
    rejected: AtomicU64,
    levels: [AtomicU64; Level::ALL.len()],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counts {
    fn failed(&self, plugin: &'static str, why: &str, events: usize) {
        let count = {
            let mut errors = self.errors.lock();
            let count = errors.entry(plugin).or_default();
            *count += events as u64;
            *count
        };
        // One line for each power of two: a back end that is down does not fill the log.
        if count.is_power_of_two() || events as u64 == count {
            tracing::error!(plugin, why, lost = count, "audit events are lost");
        }
    }

    /// Adds the counters to the page of metrics.
    pub(crate) fn render(&self, out: &mut String) {
        let plain = [
            (
                "apiserver_audit_event_total",
                "Counter of audit events generated and sent to the audit backend.",
                &self.events,
            ),
            (
                "apiserver_audit_requests_rejected_total",
                "Counter of apiserver requests rejected due to an error in audit logging backend.",
                &self.rejected,
            ),
        ];
        for (name, help, value) in plain {
            head(out, name, "counter", "ALPHA", help);
            // Writing into a String has no way to fail.
            let _ = writeln!(out, "{name} {}", value.load(Ordering::Relaxed));
        }
        let name = "apiserver_audit_level_total";
        let help = "Counter of policy levels for audit events (1 per request).";
        head(out, name, "counter", "ALPHA", help);
        for (level, value) in Level::ALL.iter().zip(&self.levels) {
            let value = value.load(Ordering::Relaxed);
            if value > 0 {
                line(out, name, &format!("level={:?}", level.as_str()), value);
            }
        }
        let errors = self.errors.lock();
        if !errors.is_empty() {
            let name = "apiserver_audit_error_total";
            let help = "Counter of audit events that failed to be audited properly. \
                        Plugin identifies the plugin affected by the error.";
            head(out, name, "counter", "ALPHA", help);
            for (plugin, value) in errors.iter() {
                line(out, name, &format!("plugin={plugin:?}"), value);
            }
        }
    }
}

impl Audit {
    /// Opens the back ends; `None` when nothing is to be written down.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(options: AuditOptions) -> std::io::Result<Option<Self>> {
        let Some(policy) = options.policy else {
            return Ok(None);
        };
        let counts = Arc::new(Counts::default());
        let mut backends = Vec::new();
        if let Some(log) = options.log {
            let target = Arc::new(Target::Log(LogFile::open(&log)?));
            backends.push(Backend::new(log.delivery, target, &counts));
        }
        if let Some(options) = options.webhook {
            let target = Arc::new(Target::Webhook(Webhook::open(&options)?));
            backends.push(Backend::new(options.delivery, target, &counts));
        }
        Ok((!backends.is_empty()).then_some(Self {
            policy,
            backends,
            counts,
        }))
    }

    /// What has been counted.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Hands an event to every back end; false when a request must not go on without it.
    async fn emit(&self, event: Event) -> bool {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        let event = Arc::new(event);
        let mut kept = true;
        for backend in &self.backends {
            kept &= backend.take(&event, &self.counts).await;
        }
        let refused = !kept && event.stage == Stage::RequestReceived;
        if refused {
            self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        }
        !refused
    }

    /// Waits until what is queued has been written.
    pub(crate) async fn flush(&self) {
        for queue in self.backends.iter().filter_map(|b| b.queue.as_ref()) {
            queue.flush().await;
        }
    }
}

impl Backend {
    fn new(delivery: Delivery, target: Arc<Target>, counts: &Arc<Counts>) -> Self {
        let batches = delivery.mode == DeliveryMode::Batch;
        let queue = batches.then(|| Queue::start(&delivery.batch, target.clone(), counts.clone()));
        Self {
            delivery,
            target,
            queue,
        }
    }

    async fn take(&self, event: &Arc<Event>, counts: &Counts) -> bool {
        let event = match self.delivery.max_event_bytes {
            None => event.clone(),
            Some(bytes) => match Event::clone(event).within(bytes) {
                Some(short) => Arc::new(short),
                None => {
                    counts.failed("truncate", "event is too large even after truncating", 1);
                    return true;
                }
            },
        };
        if let Some(queue) = &self.queue {
            queue.push(event, counts);
            return true;
        }
        match self.target.send(&[event]).await {
            Ok(()) => true,
            Err(why) => {
                counts.failed(self.target.name(), &why, 1);
                self.delivery.mode != DeliveryMode::BlockingStrict
            }
        }
    }
}
