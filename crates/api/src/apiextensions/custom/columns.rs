//! The columns of `get`.
//!
//! Behaviour: `.../registry/customresource/tableconvertor`.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use machinery::Object;
use machinery::jsonpath::JsonPath;
use machinery::table::{ColumnOf, Row};
use serde_json::Value;

use crate::columns;
use crate::view::OrEmpty;

/// One column beyond the name.
#[derive(Debug)]
pub(super) struct Column {
    name: Box<str>,
    kind: Box<str>,
    format: Box<str>,
    description: Box<str>,
    priority: i32,
    path: JsonPath,
}

impl Column {
    /// The columns of a version: those that it defines, or its age.
    pub(super) fn read(columns: &[CustomResourceColumnDefinition]) -> Vec<Self> {
        if columns.is_empty() {
            return vec![Self {
                name: "Age".into(),
                kind: "date".into(),
                format: "".into(),
                description: columns::AGE.description.into(),
                priority: 0,
                path: JsonPath::parse(".metadata.creationTimestamp").unwrap_or_default(),
            }];
        }
        let mut read = Vec::with_capacity(columns.len());
        for column in columns {
            // As upstream: behind a column that cannot be read there are none.
            let Ok(path) = JsonPath::parse(&column.json_path) else {
                break;
            };
            let description = match column.description.text() {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    column.json_path
                ),
                text => text.to_owned(),
            };
            read.push(Self {
                name: column.name.as_str().into(),
                kind: column.type_.as_str().into(),
                format: column.format.text().into(),
                description: description.into(),
                priority: column.priority.unwrap_or(0),
                path,
            });
        }
        read
    }

    pub(super) fn definition(&self) -> ColumnOf<'_> {
        ColumnOf {
            name: &self.name,
            kind: &self.kind,
            format: &self.format,
            description: &self.description,
            priority: self.priority,
        }
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(value) = found.first() else {
            return Value::Null;
        };
        match (&*self.kind, value) {
            (_, Value::Null) => Value::Null,
            ("string", value) => text(value).into(),
            ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => n.into(),
                #[expect(clippy::cast_possible_truncation, reason = "as the reference does")]
                (None, Some(n)) => (n as i64).into(),
                (None, None) => Value::Null,
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*value).clone(),
            ("date", Value::String(time)) => match time.parse() {
                Ok(time) => columns::since(Some(time), now).into(),
                Err(_) if time.is_empty() => columns::since(None, now).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

/// A value as text: texts as they are, everything else as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One row.
pub(super) fn row(columns: &[Column], object: &Object, now: Timestamp) -> Row {
    let tree = Value::Object(object.0.clone());
    let mut cells = vec![object.name().into()];
    cells.extend(columns.iter().map(|column| column.cell(&tree, now)));
    Row::from(cells)
}
