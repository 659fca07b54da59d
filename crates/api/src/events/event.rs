//! The newer form of Event. It is stored in the core form: some fields have other names there, the rest is the same.
//!
//! Upstream: `pkg/apis/events/v1/conversion.go`, `pkg/apis/core/validation/events.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as Stored;
use k8s_openapi::api::events::v1::Event as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use crate::check::{self, ErrorListExt, same};
use crate::core::event;
use crate::kind::{Context, Dependents, Kind, Names, Part, Scope};
use crate::view::OrEmpty;

/// The names of fields here and in the stored form.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The names of field selectors here and on the stored form.
const SELECTORS: &[(&str, &str)] = &[
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    (
        "regarding.resourceVersion",
        "involvedObject.resourceVersion",
    ),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

/// The kind `Event` of `events.k8s.io`.
pub struct Event;

impl Kind for Event {
    type Object = Typed;
    const NAMES: Names = Names {
        stored_as: Some(("", "events")),
        ..Names::new("events.k8s.io", "v1", "Event", "events", "event").short(&["ev"])
    };
    const SCOPE: Scope = Scope::Namespaced;
    const MAY_WARN: bool = false;
    const DEPENDENTS: Dependents = Dependents::None;
    const COLUMNS: &'static [Column] = event::COLUMNS;
    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ];

    fn prepare_update(_context: &Context, _part: Part, _new: &mut Object, _old: &Object) {}

    fn to_stored(object: &mut Object) {
        rename(object, RENAMED.iter().copied());
        object.set_type("v1", "Event");
    }

    fn from_stored(object: &mut Object) {
        rename(object, RENAMED.iter().map(|(here, there)| (*there, *here)));
        object.set_type("events.k8s.io/v1", "Event");
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let Some(new) = stored(new) else {
            return errors;
        };
        event::basic(&mut errors, &new, "reportingController");
        series(&mut errors, &new);
        if new.event_time.is_none() {
            errors.required(&Path::new("eventTime"), "");
        }
        let kind = new.type_.text();
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        let source = new.source.as_ref();
        let from = source.is_some_and(|s| s.component.text() != "" || s.host.text() != "");
        let unwanted = [
            ("firstTimestamp", new.first_timestamp.is_some()),
            ("lastTimestamp", new.last_timestamp.is_some()),
            ("count", new.count.unwrap_or(0) != 0),
            ("source", from),
        ];
        for (key, _) in unwanted.into_iter().filter(|(_, set)| *set) {
            errors.invalid(&Path::new(key), "", "needs to be unset");
        }
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let (Some(new), Some(old)) = (stored(new), stored(old)) else {
            return errors;
        };
        event::basic(&mut errors, &new, "reportingController");
        if !same(&new.series, &old.series) {
            series(&mut errors, &new);
        }
        let (is, was) = (check::json(&new), check::json(&old));
        let fixed = [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingComponent"),
            ("reportingInstance", "reportingInstance"),
        ];
        for (path, key) in fixed {
            let texts = [
                "reason",
                "message",
                "type",
                "action",
                "reportingComponent",
                "reportingInstance",
            ];
            let empty = texts.contains(&key).then(|| Value::from(""));
            let of = |event: &Value| event.get(key).or(empty.as_ref()).cloned();
            errors.immutable(&Path::new(path), &of(&is), &of(&was));
        }
        errors
    }

    fn stored_field(field: &str) -> Option<&'static str> {
        let found = SELECTORS.iter().find(|(here, _)| *here == field);
        found.map(|(_, stored)| *stored)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let mut stored = object.clone();
        Self::to_stored(&mut stored);
        let fields = event::Event::selectable_fields(&stored);
        let value = |name: &str| {
            fields
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.clone())
        };
        SELECTORS
            .iter()
            .map(|(here, there)| (*here, value(there).unwrap_or_default()))
            .collect()
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let stored = stored(object).unwrap_or_default();
        event::row(&stored, tree, now)
    }
}

/// The typed view in the stored form.
fn stored(event: &Typed) -> Option<Stored> {
    let mut tree = Object::from_value(check::json(event)).ok()?;
    Event::to_stored(&mut tree);
    tree.view().ok()
}

fn rename<'a>(object: &mut Object, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = object.0.remove(from) {
            object.0.insert(to.to_owned(), value);
        }
    }
}

fn series(errors: &mut ErrorList, event: &Stored) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    let beginning = jiff::civil::date(1, 1, 2).at(0, 0, 0, 0);
    let is_time = |time: &jiff::Timestamp| jiff::tz::TimeZone::UTC.to_datetime(*time) > beginning;
    if !series
        .last_observed_time
        .as_ref()
        .is_some_and(|time| is_time(&time.0))
    {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}
