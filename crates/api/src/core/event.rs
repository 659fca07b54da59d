//! Event: something that happened to an object. Stored once, served as `v1` and as `events.k8s.io/v1`.
//!
//! Upstream: `pkg/registry/core/event`, `pkg/apis/core/validation/events.go`, `printEvent`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Dependents, Kind, Names, Part, Scope};
use crate::view::OrEmpty;

const SHORT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// The kind `Event` of the core group.
pub struct Event;

impl Kind for Event {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Event", "events", "event").short(&["ev"]);
    const SCOPE: Scope = Scope::Namespaced;
    const MAY_WARN: bool = false;
    const DEPENDENTS: Dependents = Dependents::None;
    const COLUMNS: &'static [Column] = COLUMNS;
    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];

    fn prepare_update(_context: &Context, _part: Part, _new: &mut Object, _old: &Object) {}

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        basic(&mut errors, new, "reportingComponent");
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let text = |path: &[&str]| object.str_at(path).to_owned();
        let source = match object.str_at(&["source", "component"]) {
            "" => object.str_at(&["reportingComponent"]),
            source => source,
        };
        vec![
            ("involvedObject.kind", text(&["involvedObject", "kind"])),
            (
                "involvedObject.namespace",
                text(&["involvedObject", "namespace"]),
            ),
            ("involvedObject.name", text(&["involvedObject", "name"])),
            ("involvedObject.uid", text(&["involvedObject", "uid"])),
            (
                "involvedObject.apiVersion",
                text(&["involvedObject", "apiVersion"]),
            ),
            (
                "involvedObject.resourceVersion",
                text(&["involvedObject", "resourceVersion"]),
            ),
            (
                "involvedObject.fieldPath",
                text(&["involvedObject", "fieldPath"]),
            ),
            ("reason", text(&["reason"])),
            ("reportingComponent", text(&["reportingComponent"])),
            ("source", source.to_owned()),
            ("type", text(&["type"])),
        ]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        row(object, tree, now)
    }
}

/// The columns of both forms.
pub(crate) const COLUMNS: &[Column] = &[
    columns::text(
        "Last Seen",
        "The time at which the most recent occurrence of this event was \
                                recorded.",
    ),
    columns::text(
        "Type",
        "Type of this event (Normal, Warning), new types could be added in the \
                           future",
    ),
    columns::text(
        "Reason",
        "This should be a short, machine understandable string that gives the \
                             reason for the transition into the object's current status.",
    ),
    columns::text("Object", "The object that this event is about."),
    columns::wide(
        "Subobject",
        "If referring to a piece of an object instead of an entire object, this string should \
         contain a valid JSON/Go field access statement, such as \
         desiredState.manifest.containers[2]. For example, if the object reference is to a \
         container within a pod, this would take on a value like: \"spec.containers{name}\" (where \
         \"name\" refers to the name of the container that triggered the event) or if no container \
         name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax \
         is chosen only to have some well-defined way of referencing a part of an object.",
    ),
    columns::wide(
        "Source",
        "The component reporting this event. Should be a short machine \
                             understandable string.",
    ),
    columns::text(
        "Message",
        "A human-readable description of the status of this operation.",
    ),
    columns::wide(
        "First Seen",
        "The time at which the event was first recorded. (Time of server \
                                 receipt is in TypeMeta.)",
    ),
    columns::wide("Count", "The number of times this event has occurred."),
    Column {
        priority: 1,
        ..columns::NAME
    },
];

/// The row of both forms, from the stored one.
pub(crate) fn row(event: &Typed, tree: &Object, now: Timestamp) -> Row {
    let seen = |time| columns::since(time, now);
    let happened = columns::micro_moment(event.event_time.as_ref());
    let first = seen(columns::moment(event.first_timestamp.as_ref()).or(happened));
    let mut last = match columns::moment(event.last_timestamp.as_ref()) {
        None => first.clone(),
        time => seen(time),
    };
    let mut count = event.count.filter(|c| *c != 0).unwrap_or(1);
    if let Some(series) = &event.series {
        last = seen(columns::micro_moment(series.last_observed_time.as_ref()));
        count = series.count.unwrap_or(0);
    }
    let about = &event.involved_object;
    let mut target = about.kind.text().to_lowercase();
    if !about.name.text().is_empty() {
        target = format!("{target}/{}", about.name.text());
    }
    Row::from(vec![
        last.into(),
        event.type_.text().into(),
        event.reason.text().into(),
        target.into(),
        about.field_path.text().into(),
        source(event).into(),
        event.message.text().trim().into(),
        first.into(),
        count.into(),
        tree.name().into(),
    ])
}

/// `kubelet, node-1`
fn source(event: &Typed) -> String {
    let given = |pick: fn(&k8s_openapi::api::core::v1::EventSource) -> &Option<String>| {
        event.source.as_ref().map_or("", |s| pick(s).text())
    };
    let first = |a: &str, b: &str| {
        if a.is_empty() {
            b.to_owned()
        } else {
            a.to_owned()
        }
    };
    let component = first(given(|s| &s.component), event.reporting_component.text());
    let instance = first(given(|s| &s.host), event.reporting_instance.text());
    if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    }
}

/// What every event must satisfy, however it was written. An event without `eventTime` is one of the old kind.
pub(crate) fn basic(errors: &mut ErrorList, event: &Typed, controller_field: &str) {
    const MISMATCH: &str = "does not match event.namespace";
    let namespace = event.metadata.namespace.text();
    let about = event.involved_object.namespace.text();
    let at = Path::new("involvedObject").child("namespace");
    if event.event_time.is_none() {
        let fits = match about {
            "" => matches!(namespace, "" | "default"),
            about => about == namespace,
        };
        if !fits {
            errors.invalid(&at, about, MISMATCH);
        }
        return;
    }
    if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.invalid(&at, about, MISMATCH);
    }
    let controller = event.reporting_component.text();
    let at = Path::new(controller_field);
    errors.required_text(&at, controller, "");
    errors.invalid_each(&at, controller, names::qualified_name(controller));
    let texts = [
        (
            "reportingInstance",
            event.reporting_instance.text(),
            true,
            SHORT_MAX,
        ),
        ("action", event.action.text(), true, SHORT_MAX),
        ("reason", event.reason.text(), true, SHORT_MAX),
        ("message", event.message.text(), false, MESSAGE_MAX),
    ];
    for (key, text, required, max) in texts {
        let at = Path::new(key);
        if required {
            errors.required_text(&at, text, "");
        }
        if text.len() > max {
            errors.invalid(&at, "", format!("can have at most {max} characters"));
        }
    }
}
