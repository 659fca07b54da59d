//! Telling the cluster what happened to an object.
//!
//! [`Recorder::record`] never waits and never fails: events go through a bounded queue to one task, which counts up
//! what repeats, combines what is similar, and drops floods. Behaviour: client-go's `tools/record`.

mod correlate;

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use correlate::{Correlator, Decision};

/// Events that may wait to be written; more are dropped.
const BACKLOG: usize = 1000;

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Worth a look.
    Warning,
}

impl EventType {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// To which object.
    pub about: ObjectReference,
    /// How serious it is.
    pub event_type: EventType,
    /// Why, in CamelCase.
    pub reason: String,
    /// What was done, in CamelCase; components that write plain core events leave it empty.
    pub action: String,
    /// For people.
    pub message: String,
}

/// Takes the events of one component and writes them in the background; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Event>,
}

impl Recorder {
    /// Starts the writing task, on the current runtime; it ends when the last recorder is gone.
    /// `host` is the node the component runs on, or empty.
    pub fn start(client: Client, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let (component, host) = (component.to_owned(), host.to_owned());
        tokio::spawn(write_all(
            Writer {
                client,
                component,
                host,
            },
            receiver,
        ));
        Self { sender }
    }

    /// Takes an event; never waits.
    pub fn record(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.sender.try_send(event) {
            tracing::warn!(
                reason = event.reason,
                "too many events waiting, dropped one"
            );
        }
    }
}

async fn write_all(writer: Writer, mut events: mpsc::Receiver<Event>) {
    let mut correlator = Correlator::default();
    while let Some(event) = events.recv().await {
        let (key, decision) = correlator.decide(&event, Instant::now());
        let written = match decision {
            Decision::Drop => continue,
            Decision::Write {
                message,
                known: Some(known),
            } => {
                let count = known.count + 1;
                match writer.count_up(&event, &known.name, count, &message).await {
                    // It has expired meanwhile: start over.
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        writer.create(&event, &message).await.map(|name| (name, 1))
                    }
                    other => other.map(|()| (known.name, count)),
                }
            }
            Decision::Write {
                message,
                known: None,
            } => writer.create(&event, &message).await.map(|name| (name, 1)),
        };
        match written {
            Ok((name, count)) => correlator.written(key, name, count),
            Err(error) => {
                tracing::debug!(reason = event.reason, %error, "an event was not written")
            }
        }
    }
}

struct Writer {
    client: Client,
    component: String,
    host: String,
}

impl Writer {
    fn api(&self, event: &Event) -> Api<CoreEvent> {
        let namespace = event.about.namespace.as_deref().filter(|n| !n.is_empty());
        Api::namespaced(self.client.clone(), namespace.unwrap_or("default"))
    }

    async fn create(&self, event: &Event, message: &str) -> Result<String, kube::Error> {
        let now = Timestamp::now();
        let about = event.about.name.clone().unwrap_or_default();
        let name = format!("{about}.{:x}", now.as_nanosecond());
        let object = self.object(event, message, &name, now);
        let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        self.api(event)
            .create(&PostParams::default(), &object)
            .await?;
        Ok(name)
    }

    fn object(&self, event: &Event, message: &str, name: &str, now: Timestamp) -> Value {
        let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let namespace = event.about.namespace.as_deref().filter(|n| !n.is_empty());
        let mut object = json!({
            "metadata": {"name": name, "namespace": namespace.unwrap_or("default")},
            "involvedObject": event.about,
            "reason": event.reason,
            "message": message,
            "source": {"component": self.component},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "type": event.event_type.as_str(),
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        if !self.host.is_empty() {
            object["source"]["host"] = self.host.as_str().into();
        }
        if !event.action.is_empty() {
            object["action"] = event.action.as_str().into();
        }
        object
    }

    async fn count_up(
        &self,
        event: &Event,
        name: &str,
        count: u32,
        message: &str,
    ) -> Result<(), kube::Error> {
        let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"count": count, "lastTimestamp": at, "message": message});
        let parameters = PatchParams::default();
        self.api(event)
            .patch(name, &parameters, &Patch::Strategic(patch))
            .await
            .map(|_| ())
    }
}
