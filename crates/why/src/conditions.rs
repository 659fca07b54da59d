//! Kinds of which nothing special is known: their conditions and events speak.

use serde_json::Value;

use crate::answer::{Answer, Cause};
use crate::events;
use crate::picture::Picture;

/// Condition types whose `True` is the bad news.
const BAD_WHEN_TRUE: &[&str] = &[
    "Failed",
    "ReplicaFailure",
    "Stalled",
    "Degraded",
    "FailureTarget",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "NonStructuralSchema",
];

/// Explains any object.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let mut causes = causes(&picture.subject.object);
    causes.extend(events::causes(picture, picture.subject.uid()));
    match causes.is_empty() {
        true => Answer::new("nothing about it is known to be wrong", causes),
        false => Answer::new("this has been said about it", causes),
    }
}

/// A cause for each condition that tells of something bad.
pub(crate) fn causes(object: &Value) -> Vec<Cause> {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().filter_map(cause).collect()
}

fn cause(condition: &Value) -> Option<Cause> {
    let text = |name: &str| condition[name].as_str().unwrap_or_default();
    let (kind, status) = (text("type"), text("status"));
    let bad = match BAD_WHEN_TRUE.contains(&kind) {
        true => status != "False",
        false => status != "True",
    };
    let reason = match text("reason") {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    bad.then(|| Cause::new(format!("condition {kind} is {status}{reason}")).detail(text("message")))
}
