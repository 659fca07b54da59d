//! Tells the cluster what a controller did. Repeated events are counted up in one object, floods are dropped:
//! behaviour of client-go's `tools/record`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::Event;
use http::Method;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::request::{self, RequestError};

/// Events that may wait to be written; more are dropped.
const BACKLOG: usize = 1000;
/// Different events remembered for counting.
const REMEMBERED: usize = 4096;
/// Events about one object at once, and how long it takes until one more is allowed.
const BURST: (f64, Duration) = (25.0, Duration::from_secs(300));

/// Takes events of one component and writes them in the background.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Event>,
}

impl Recorder {
    /// Starts the writing task; it ends when the last recorder is gone.
    pub fn start(client: Client, component: &'static str) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(write_all(client, component, receiver));
        Self { sender }
    }

    /// Takes an event; never waits.
    pub fn record(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.sender.try_send(event) {
            tracing::warn!(%event, "too many events, dropped one");
        }
    }
}

/// What makes two events the same one happening again.
type Identity = (String, &'static str, String, String);

struct Known {
    path: String,
    count: i64,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

#[derive(Default)]
struct Correlator {
    known: HashMap<Identity, Known>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// Whether another event about this object may be written now.
    fn allows(&mut self, about: &str, now: Instant) -> bool {
        if self.buckets.len() >= REMEMBERED {
            self.buckets.clear();
        }
        let full = Bucket {
            tokens: BURST.0,
            filled: now,
        };
        let bucket = self.buckets.entry(about.to_owned()).or_insert(full);
        let gained = now.duration_since(bucket.filled).as_secs_f64() / BURST.1.as_secs_f64();
        bucket.tokens = (bucket.tokens + gained).min(BURST.0);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

async fn write_all(client: Client, component: &'static str, mut events: mpsc::Receiver<Event>) {
    let mut correlator = Correlator::default();
    while let Some(event) = events.recv().await {
        let about = about(&event);
        if !correlator.allows(&about, Instant::now()) {
            tracing::debug!(component, %event, "too many events about one object, dropped one");
            continue;
        }
        if let Err(error) = write(&client, component, &event, about, &mut correlator).await {
            if !error.is_namespace_terminating() {
                tracing::debug!(component, %event, %error, "could not write an event");
            }
        }
    }
}

async fn write(
    client: &Client,
    component: &'static str,
    event: &Event,
    about: String,
    correlator: &mut Correlator,
) -> Result<(), RequestError> {
    let now = Timestamp::now();
    let identity = (
        about,
        event.event_type.as_str(),
        event.reason.clone(),
        event.message.clone(),
    );
    if let Some(known) = correlator.known.get_mut(&identity) {
        let patch = json!({ "count": known.count + 1, "lastTimestamp": seconds(now) });
        let body = Some(("application/strategic-merge-patch+json", &patch));
        match request::send(client, Method::PATCH, &known.path, body, "application/json").await {
            Ok(_) => {
                known.count += 1;
                return Ok(());
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let (collection, object) = body(component, event, now);
    let sent = Some(("application/json", &object));
    request::send(client, Method::POST, &collection, sent, "application/json").await?;
    if correlator.known.len() >= REMEMBERED {
        correlator.known.clear();
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let known = Known {
        path: format!("{collection}/{name}"),
        count: 1,
    };
    correlator.known.insert(identity, known);
    Ok(())
}

fn about(event: &Event) -> String {
    let about = &event.about;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{}/{}/{}/{}",
        part(&about.kind),
        part(&about.namespace),
        part(&about.name),
        part(&about.uid)
    )
}

/// The collection's path and the object of a new event.
fn body(component: &str, event: &Event, now: Timestamp) -> (String, Value) {
    let namespace = event.about.namespace.as_deref().filter(|n| !n.is_empty());
    let namespace = namespace.unwrap_or("default");
    let name = event.about.name.as_deref().unwrap_or_default();
    let object = json!({
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": format!("{name}.{:x}", now.as_nanosecond()),
            "namespace": namespace,
        },
        "involvedObject": event.about,
        "reason": event.reason,
        "message": event.message,
        "source": { "component": component },
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "count": 1,
        "type": event.event_type.as_str(),
    });
    (format!("/api/v1/namespaces/{namespace}/events"), object)
}

fn seconds(time: Timestamp) -> String {
    machinery::time::rfc3339(time)
}
