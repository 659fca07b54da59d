//! The server-side table that `kubectl get` prints (`meta.k8s.io/v1, Kind=Table`).

use serde_json::{Value, json};

/// One column's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnOf<'a> {
    /// Heading.
    pub name: &'a str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'a str,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'a str,
    /// Shown to those who ask for the column's meaning.
    pub description: &'a str,
    /// 0 is always shown; anything above only by `-o wide`.
    pub priority: i32,
}

/// A column that is written in the program.
pub type Column = ColumnOf<'static>;

impl ColumnOf<'_> {
    /// The definition on the wire.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }
}

/// The cells of one object, and the conditions that mark a finished row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// One value a column.
    pub cells: Vec<Value>,
    /// `TableRowCondition`s, nearly always empty.
    pub conditions: Vec<Value>,
}

impl From<Vec<Value>> for Row {
    fn from(cells: Vec<Value>) -> Self {
        Self {
            cells,
            conditions: Vec::new(),
        }
    }
}
