//! A server elsewhere that takes events in batches.
//!
//! Behaviour: `k8s.io/apiserver/plugin/pkg/audit/webhook`, `.../truncate`.

use std::sync::Arc;
use std::time::Duration;

use access::Lookup;
use access::audit::Event;
use bytes::Bytes;
use machinery::Object;
use rand::RngExt;

use super::WebhookOptions;
use crate::outbound::{Destination, Message, Outbound, kubeconfig};

const TRIES: usize = 5;
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;
/// For one try; upstream bounds it by nothing but the connection.
const TIMEOUT: Duration = Duration::from_secs(30);
const BEGIN: &[u8] =
    b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[";
const END: &[u8] = b"]}";

/// The far end.
pub(super) struct Webhook {
    destination: Destination,
    path: String,
    first_pause: Duration,
    max_bytes: Option<usize>,
    outbound: Outbound,
}

/// A far end of events is a URL: no objects are looked at to find it.
struct Nothing;

impl Lookup for Nothing {
    fn get(&self, _: &str, _: &str, _: &str, _: &str) -> Option<Arc<Object>> {
        None
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
        Vec::new()
    }
}

impl Webhook {
    /// As a kubeconfig describes it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn open(options: &WebhookOptions) -> std::io::Result<Self> {
        let (destination, path) =
            kubeconfig::load(&options.kubeconfig).map_err(std::io::Error::other)?;
        Ok(Self {
            destination,
            path,
            first_pause: options.initial_backoff,
            max_bytes: options.max_batch_bytes,
            outbound: Outbound::default(),
        })
    }

    /// Sends events, in as many lists as their size asks for.
    ///
    /// # Errors
    /// What the last try of the first list that did not get there said.
    pub(super) async fn send(&self, events: &[Arc<Event>]) -> Result<(), String> {
        for list in lists(events, self.max_bytes) {
            self.send_list(list.into()).await?;
        }
        Ok(())
    }

    async fn send_list(&self, body: Bytes) -> Result<(), String> {
        let mut pause = self.first_pause;
        for tried in 1.. {
            let message = Message::json(self.path.clone(), body.clone(), TIMEOUT);
            let sent = self.outbound.exchange(&Nothing, &self.destination, message);
            let failure = match sent.await {
                Ok(answer) => match answer.success() {
                    Ok(_) => return Ok(()),
                    Err(error) => error.message,
                },
                Err(error) => error.to_string(),
            };
            if tried == TRIES {
                return Err(failure);
            }
            let jitter = 1.0 + rand::rng().random_range(0.0..JITTER);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = pause.mul_f64(FACTOR);
        }
        Ok(())
    }
}

/// Lists of events, none longer than this if it can be helped.
fn lists(events: &[Arc<Event>], max_bytes: Option<usize>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut list = BEGIN.to_vec();
    for event in events {
        let event = event.to_json();
        let has_some = list.len() > BEGIN.len();
        let more = list.len() + 1 + event.len() + END.len();
        if has_some && max_bytes.is_some_and(|most| more > most) {
            list.extend_from_slice(END);
            all.push(std::mem::replace(&mut list, BEGIN.to_vec()));
        } else if has_some {
            list.push(b',');
        }
        list.extend_from_slice(&event);
    }
    list.extend_from_slice(END);
    all.push(list);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::audit::tests::event;

    #[test]
    fn events_are_listed_in_pieces_of_their_size() {
        let events: Vec<_> = (0..5).map(|n| event(&n.to_string())).collect();
        let whole = lists(&events, None);
        let value: Value = serde_json::from_slice(&whole[0]).expect("JSON");
        assert_eq!(
            (&value["kind"], &value["apiVersion"]),
            (&"EventList".into(), &"audit.k8s.io/v1".into())
        );
        assert_eq!(value["items"].as_array().map(Vec::len), Some(5));
        let half = lists(&events, Some(whole[0].len() / 2));
        let counts = half.iter().map(|list| {
            let value: Value = serde_json::from_slice(list).expect("JSON");
            value["items"].as_array().map_or(0, Vec::len)
        });
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 1]);
    }
}
