//! Which events are written, and as what: pure bookkeeping.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Event;

/// Things remembered of each sort; when there are more, all are forgotten.
const REMEMBERED: usize = 4096;
/// Events about one object at once, and how long it takes until one more is allowed.
const BURST: f64 = 25.0;
const ONE_MORE_EVERY: Duration = Duration::from_secs(300);
/// So many events that differ only by message, within this time, become one.
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
const COMBINED: &str = "(combined from similar events): ";

/// What makes two events the same one happening again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    about: [String; 6],
    event_type: &'static str,
    reason: String,
    /// `None`: all messages of similar events.
    message: Option<String>,
}

/// An event object that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) count: u32,
}

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Too many about this object.
    Drop,
    /// Write it with this message, as a new object or as one more of a known one.
    Write {
        message: String,
        known: Option<Known>,
    },
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

struct Similar {
    since: Instant,
    messages: HashSet<String>,
}

#[derive(Default)]
pub(super) struct Correlator {
    known: HashMap<Identity, Known>,
    similar: HashMap<Identity, Similar>,
    buckets: HashMap<[String; 6], Bucket>,
}

impl Correlator {
    /// Decides about an event; the identity is to be given back to [`Correlator::written`].
    pub(super) fn decide(&mut self, event: &Event, now: Instant) -> (Identity, Decision) {
        let about = about(event);
        let of = |message: Option<String>| Identity {
            about: about.clone(),
            event_type: event.event_type.as_str(),
            reason: event.reason.clone(),
            message,
        };
        let (identity, message) = if self.is_one_of_many(of(None), &event.message, now) {
            (of(None), format!("{COMBINED}{}", event.message))
        } else {
            (of(Some(event.message.clone())), event.message.clone())
        };
        if !self.allows(about, now) {
            return (identity, Decision::Drop);
        }
        let known = self.known.get(&identity).cloned();
        (identity, Decision::Write { message, known })
    }

    /// Notes the object that an event was written as.
    pub(super) fn written(&mut self, identity: Identity, name: String, count: u32) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(identity, Known { name, count });
    }

    fn is_one_of_many(&mut self, identity: Identity, message: &str, now: Instant) -> bool {
        if self.similar.len() >= REMEMBERED {
            self.similar.clear();
        }
        let new = || Similar {
            since: now,
            messages: HashSet::new(),
        };
        let similar = self.similar.entry(identity).or_insert_with(new);
        if now.duration_since(similar.since) > SIMILAR_WITHIN {
            *similar = new();
        }
        if similar.messages.len() < SIMILAR {
            similar.messages.insert(message.to_owned());
        }
        similar.since = now;
        similar.messages.len() >= SIMILAR
    }

    fn allows(&mut self, about: [String; 6], now: Instant) -> bool {
        if self.buckets.len() >= REMEMBERED {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(about).or_insert(Bucket {
            tokens: BURST,
            filled: now,
        });
        let gained = now.duration_since(bucket.filled).as_secs_f64() / ONE_MORE_EVERY.as_secs_f64();
        bucket.tokens = (bucket.tokens + gained).min(BURST);
        bucket.filled = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

fn about(event: &Event) -> [String; 6] {
    let reference = &event.about;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    [
        text(&reference.api_version),
        text(&reference.kind),
        text(&reference.namespace),
        text(&reference.name),
        text(&reference.uid),
        text(&reference.field_path),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventType;

    fn event(message: &str) -> Event {
        Event {
            about: Default::default(),
            event_type: EventType::Normal,
            reason: "Pulling".into(),
            action: String::new(),
            message: message.into(),
        }
    }

    #[test]
    fn repetition_is_counted_up() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let (key, first) = correlator.decide(&event("m"), now);
        assert_eq!(
            first,
            Decision::Write {
                message: "m".into(),
                known: None
            }
        );
        correlator.written(key, "e".into(), 1);
        let (_, second) = correlator.decide(&event("m"), now);
        let known = Some(Known {
            name: "e".into(),
            count: 1,
        });
        assert_eq!(
            second,
            Decision::Write {
                message: "m".into(),
                known
            }
        );
    }

    #[test]
    fn similar_events_are_combined() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for i in 0..9 {
            let (_, decision) = correlator.decide(&event(&i.to_string()), now);
            assert_eq!(
                decision,
                Decision::Write {
                    message: i.to_string(),
                    known: None
                }
            );
        }
        let (_, decision) = correlator.decide(&event("9"), now);
        let message = "(combined from similar events): 9".to_owned();
        assert_eq!(
            decision,
            Decision::Write {
                message,
                known: None
            }
        );
    }

    #[test]
    fn floods_are_dropped_and_trickles_are_not() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for _ in 0..25 {
            assert_ne!(correlator.decide(&event("m"), now).1, Decision::Drop);
        }
        assert_eq!(correlator.decide(&event("m"), now).1, Decision::Drop);
        let later = now + ONE_MORE_EVERY;
        assert_ne!(correlator.decide(&event("m"), later).1, Decision::Drop);
        assert_eq!(correlator.decide(&event("m"), later).1, Decision::Drop);
    }
}
