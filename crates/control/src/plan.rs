//! What a controller orders. An action leaves no choice: final names, bodies and preconditions stand in it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

use crate::look::Question;
use crate::resource::{Key, Kind, Resource, Target};

/// The outcome of one decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Carried out in this order; neighbouring creations start slowly and then run side by side, and so do deletions.
    pub actions: Vec<Action>,
    /// Written after the actions, even when one of them failed.
    pub status: Option<StatusWrite>,
    /// When to look again although nothing changed; replaces what was armed before.
    pub requeue_after: Option<Duration>,
    /// Since when that has been so what is waited for: given back to the next observation of the item, forgotten when
    /// the process ends. Losing it must be harmless.
    pub since: Option<Timestamp>,
    /// What was decided or is waited for.
    pub because: String,
}

impl Plan {
    /// A plan without any action.
    pub fn idle(because: impl Into<String>) -> Self {
        Self {
            because: because.into(),
            ..Self::default()
        }
    }

    /// Whether carrying it out changes nothing and asks nothing.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty() && self.status.is_none()
    }
}

/// `PUT .../status` with the resourceVersion that was observed.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// The object whose status it is.
    pub target: Target,
    /// The whole object, its metadata as observed, its status new.
    pub object: Value,
}

impl StatusWrite {
    /// The status write of a typed object.
    pub fn of<K: Kind>(object: &K) -> Self {
        Self {
            target: Target::of(object),
            object: to_value(object),
        }
    }
}

/// One request to the API, or one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object under its final name.
    Create {
        /// Kind and name.
        target: Target,
        /// The object.
        object: Value,
        /// What to tell about it.
        report: Option<Report>,
    },
    /// Replaces an object; the resourceVersion in the body is the precondition.
    Update {
        /// Kind and name.
        target: Target,
        /// The whole object.
        object: Value,
        /// A sub-resource such as `finalize`, or none.
        subresource: Option<&'static str>,
        /// What to tell about it.
        report: Option<Report>,
    },
    /// Patches an object; preconditions (UID, resourceVersion) stand in the patch itself.
    Patch {
        /// Kind and name.
        target: Target,
        /// The change.
        patch: Patch,
        /// A sub-resource such as `status`, or none.
        subresource: Option<&'static str>,
        /// What to tell about it.
        report: Option<Report>,
    },
    /// Deletes an object if it still is the one observed.
    Delete {
        /// Kind and name.
        target: Target,
        /// The UID it must have.
        uid: String,
        /// The resourceVersion it must have, where the decision depended on its content.
        resource_version: Option<String>,
        /// What happens to its dependents; the kind's default when absent.
        propagation: Option<Propagation>,
        /// Grace period in seconds; the object's own when absent.
        grace_seconds: Option<i64>,
        /// What to tell about it.
        report: Option<Report>,
    },
    /// Writes an object anew as it is, for the sake of how it is stored. That somebody else has written or deleted it since
    /// serves as well.
    Touch {
        /// Kind and name.
        target: Target,
        /// The resourceVersion that it was observed with.
        resource_version: String,
    },
    /// Deletes all objects of one kind in a namespace.
    DeleteCollection {
        /// The kind.
        resource: Resource,
        /// The namespace.
        namespace: String,
    },
    /// Tells what happened.
    Event(Event),
    /// Asks the API itself, past the cache; the answer stands in the next observation, which follows at once.
    Confirm(Question),
}

impl Action {
    /// Creation of a typed object.
    pub fn create<K: Kind>(object: &K, report: Option<Report>) -> Self {
        Self::Create {
            target: Target::of(object),
            object: to_value(object),
            report,
        }
    }

    /// Replacement of a typed object; its resourceVersion is the precondition.
    pub fn update<K: Kind>(object: &K, report: Option<Report>) -> Self {
        Self::Update {
            target: Target::of(object),
            object: to_value(object),
            subresource: None,
            report,
        }
    }

    /// Deletion of a typed object, bound to its UID.
    pub fn delete<K: Kind>(object: &K, report: Option<Report>) -> Self {
        Self::Delete {
            target: Target::of(object),
            uid: object.metadata().uid.clone().unwrap_or_default(),
            resource_version: None,
            propagation: None,
            grace_seconds: None,
            report,
        }
    }

    /// A merge patch of a typed object.
    pub fn merge<K: Kind>(object: &K, patch: Value, report: Option<Report>) -> Self {
        Self::Patch {
            target: Target::of(object),
            patch: Patch::Merge(patch),
            subresource: None,
            report,
        }
    }

    /// What is told about its outcome.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Create { report, .. }
            | Self::Update { report, .. }
            | Self::Patch { report, .. }
            | Self::Delete { report, .. } => report.as_ref(),
            Self::Touch { .. }
            | Self::DeleteCollection { .. }
            | Self::Event(_)
            | Self::Confirm(_) => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sub = |s: &Option<&str>| s.map(|s| format!("/{s}")).unwrap_or_default();
        match self {
            Self::Create { target, .. } => write!(f, "create {target}"),
            Self::Update {
                target,
                subresource,
                ..
            } => write!(f, "update{} {target}", sub(subresource)),
            Self::Patch {
                target,
                patch,
                subresource,
                ..
            } => write!(f, "patch{} {target}: {}", sub(subresource), patch.body()),
            Self::Delete {
                target,
                propagation,
                grace_seconds,
                ..
            } => {
                write!(f, "delete {target}")?;
                if let Some(propagation) = propagation {
                    write!(f, " ({propagation:?})")?;
                }
                if let Some(seconds) = grace_seconds {
                    write!(f, " (grace {seconds}s)")?;
                }
                Ok(())
            }
            Self::Touch {
                target,
                resource_version,
            } => write!(f, "touch {target} at {resource_version}"),
            Self::DeleteCollection {
                resource,
                namespace,
            } => write!(f, "delete all {resource} in {namespace}"),
            Self::Event(event) => write!(f, "{event}"),
            Self::Confirm(question) => write!(f, "confirm {question}"),
        }
    }
}

/// A patch and its media type.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
    /// RFC 6902.
    Json(Value),
}

impl Patch {
    /// The patch itself.
    pub const fn body(&self) -> &Value {
        match self {
            Self::Merge(body) | Self::Strategic(body) | Self::Json(body) => body,
        }
    }

    /// Its `Content-Type`.
    pub const fn media_type(&self) -> &'static str {
        match self {
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Json(_) => "application/json-patch+json",
        }
    }
}

/// What a deletion does to the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay, without the owner.
    Orphan,
}

impl Propagation {
    /// The value of `propagationPolicy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// What to tell about the outcome of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whom the event is about.
    pub about: ObjectReference,
    /// Reason and message of the event on success.
    pub success: Option<(&'static str, String)>,
    /// Reason of the event on failure and what stands before the error's text.
    pub failure: Option<(&'static str, String)>,
}

/// Importance of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something that may cause problems.
    Warning,
}

impl EventType {
    /// The value of the event's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One event about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Whom it is about.
    pub about: ObjectReference,
    /// Its importance.
    pub event_type: EventType,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// For humans.
    pub message: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "event {} {}: {}",
            self.event_type.as_str(),
            self.reason,
            self.message
        )
    }
}

/// A reference to a typed object, for events and owner references of other kinds.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The JSON of a typed object.
pub fn to_value<K: Kind>(object: &K) -> Value {
    // The types of the API are plain data with string keys, whose encoding has no way to fail.
    serde_json::to_value(object).expect("an API object encodes")
}

impl From<&Key> for String {
    fn from(key: &Key) -> Self {
        key.to_string()
    }
}
