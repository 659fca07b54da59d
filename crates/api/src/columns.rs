//! Columns of `get`, and the pieces that many of them share.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use machinery::table::Column;

const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. \
    It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this \
    value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. \
    More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The column that identifies the row.
pub const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: NAME_TEXT,
    priority: 0,
};

/// Time since creation.
pub const AGE: Column = text("Age", AGE_TEXT);

/// A column of text that is always shown.
pub const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of numbers that is always shown.
pub const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of text that only `-o wide` shows.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 1,
    }
}

/// Time since a moment, as columns show it: `5m3s`, or `<unknown>` when there is none.
pub fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => machinery::time::human_duration(now.duration_since(then)),
        None => "<unknown>".to_owned(),
    }
}

/// The moment in a `Time` that may be absent.
pub fn moment(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|t| t.0)
}

/// The moment in a `MicroTime` that may be absent.
pub fn micro_moment(time: Option<&MicroTime>) -> Option<Timestamp> {
    time.map(|t| t.0)
}

/// The columns of kinds for which `get` has no rows of their own, as roles.
pub const NAME_AND_CREATED: &[Column] = &[NAME, CREATED];

/// The moment of creation.
pub const CREATED: Column = Column {
    name: "Created At",
    kind: "date",
    format: "",
    description: AGE_TEXT,
    priority: 0,
};

/// The row of [`NAME_AND_CREATED`].
pub fn name_and_created(object: &machinery::Object) -> machinery::table::Row {
    machinery::table::Row::from(vec![object.name().into(), created(object).into()])
}

/// The cell of [`CREATED`].
pub fn created(object: &machinery::Object) -> &str {
    match object.meta_str("creationTimestamp") {
        "" => "0001-01-01T00:00:00Z",
        created => created,
    }
}
