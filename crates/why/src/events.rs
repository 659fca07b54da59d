//! What components have told about an object.

use k8s_openapi::api::core::v1::Event;

use crate::answer::Cause;
use crate::picture::Picture;

/// More warnings than these are old news.
const SHOWN: usize = 3;

/// The latest warnings about the object with this UID, newest first, one per reason.
pub(crate) fn warnings(picture: &Picture, uid: &str) -> Vec<Event> {
    let mut events: Vec<Event> = picture.of();
    events.retain(|e| {
        !uid.is_empty()
            && e.involved_object.uid.as_deref() == Some(uid)
            && e.type_.as_deref() == Some("Warning")
    });
    events.sort_by_key(|e| std::cmp::Reverse(time(e)));
    let mut seen = Vec::new();
    events.retain(|e| {
        let reason = e.reason.clone();
        let new = !seen.contains(&reason);
        seen.push(reason);
        new
    });
    events.truncate(SHOWN);
    events
}

/// The warnings as causes.
pub(crate) fn causes(picture: &Picture, uid: &str) -> Vec<Cause> {
    let events = warnings(picture, uid);
    events
        .iter()
        .map(|e| {
            let source = e.source.as_ref().and_then(|s| s.component.as_deref());
            let reporter = source.or(e.reporting_component.as_deref());
            let who = reporter.filter(|r| !r.is_empty()).unwrap_or("a component");
            let reason = e.reason.as_deref().unwrap_or_default();
            let times = e.count.filter(|n| *n > 1);
            let times = times.map(|n| format!(", {n} times")).unwrap_or_default();
            let cause = Cause::new(format!("{who} warned: {reason}{times}"));
            cause.detail(e.message.clone().unwrap_or_default())
        })
        .collect()
}

/// The newest warning with one of these reasons.
pub(crate) fn message(picture: &Picture, uid: &str, reasons: &[&str]) -> Option<String> {
    let events = warnings(picture, uid);
    let reason = |e: &&Event| reasons.contains(&e.reason.as_deref().unwrap_or_default());
    events.iter().find(reason).and_then(|e| e.message.clone())
}

fn time(event: &Event) -> Option<jiff::Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|s| s.last_observed_time.as_ref());
    series
        .or(event.event_time.as_ref())
        .map(|t| t.0)
        .or(event.last_timestamp.as_ref().map(|t| t.0))
}
