//! One step of a path: into a field, to a list element by key, value or place.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::value::same;

/// A JSON value with a total order, as keys of list elements need.
#[derive(Clone, Debug)]
pub struct Scalar(pub Value);

impl Scalar {
    fn rank(&self) -> u8 {
        match self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a
                    .as_f64()
                    .unwrap_or_default()
                    .total_cmp(&b.as_f64().unwrap_or_default()),
            },
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (a, b) if same(a, b) => Ordering::Equal,
            (a, b) => self
                .rank()
                .cmp(&other.rank())
                .then_with(|| a.to_string().cmp(&b.to_string())),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of an object or a key of a map.
    Field(String),
    /// The list element with these key fields, sorted by name.
    Key(Vec<(String, Scalar)>),
    /// The list element with this value.
    Value(Scalar),
    /// The list element at this place.
    Index(i64),
}

impl PathElement {
    /// A step into a field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// The form in `FieldsV1`: `f:name`, `k:{"name":"x"}`, `v:"x"`, `i:3`.
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let fields = fields.iter().map(|(k, v)| (k.clone(), v.0.clone()));
                format!("k:{}", Value::Object(fields.collect()))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads the form in `FieldsV1`.
    ///
    /// # Errors
    /// Not that form.
    pub fn decode(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) if kind.len() == 1 => (kind, rest),
            _ if text.len() < 2 => return Err("key must be 2 characters long:".to_owned()),
            _ => return Err(format!("missing colon: {text}")),
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|e| e.to_string());
        match kind {
            "f" => Ok(Self::field(rest)),
            "v" => Ok(Self::Value(Scalar(json()?))),
            "k" => {
                let map: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|e| e.to_string())?;
                let mut fields: Vec<_> = map.into_iter().map(|(k, v)| (k, Scalar(v))).collect();
                fields.sort();
                Ok(Self::Key(fields))
            }
            "i" => rest
                .parse()
                .map(Self::Index)
                .map_err(|_| format!("strconv.Atoi: parsing {rest:?}: invalid syntax")),
            _ => Err("unknown path element type".to_owned()),
        }
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}
