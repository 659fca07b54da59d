//! The table of fields, read once when the first client sends protobuf.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

static TEXT: &str = include_str!("fields.txt");

/// One field of a message.
pub(super) struct Field {
    pub(super) number: u64,
    /// The JSON name; `-` stands for the fields of an embedded message.
    pub(super) name: &'static str,
    /// A zero that was sent means something.
    pub(super) keeps_zero: bool,
    pub(super) of: Type,
}

/// The type of a value.
pub(super) enum Type {
    String,
    Bool,
    Int,
    Float,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// JSON inside a message of its own.
    Json,
    Message(&'static str),
    List(Box<Type>),
    Map(Box<Type>),
    /// A list inside a message of its own.
    Items(Box<Type>),
    /// A message of alternatives, which in JSON is the one that was chosen: the field `schema`, or else the other.
    Choice(&'static str),
}

impl Type {
    fn parse(text: &'static str) -> Self {
        let inner = |text| Box::new(Self::parse(text));
        if let Some(of) = text.strip_prefix("[]") {
            return Self::List(inner(of));
        }
        if let Some(of) = text.strip_prefix("{}") {
            return Self::Map(inner(of));
        }
        if let Some(of) = text.strip_prefix("Items") {
            return Self::Items(inner(of));
        }
        if let Some(message) = text.strip_prefix("Choice") {
            return Self::Choice(message);
        }
        match text {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int" | "Duration" => Self::Int,
            "float" => Self::Float,
            "bytes" => Self::Bytes,
            "Quantity" => Self::Quantity,
            "IntOrString" => Self::IntOrString,
            "Time" => Self::Time,
            "MicroTime" => Self::MicroTime,
            "FieldsV1" | "RawExtension" => Self::Json,
            message => Self::Message(message),
        }
    }

    /// The value of a map's entry whose value was not sent.
    pub(super) fn zero(&self) -> Value {
        match self {
            Self::Bool => false.into(),
            Self::Int | Self::Float => 0.into(),
            Self::Message(_) | Self::Choice(_) | Self::Map(_) => Value::Object(Map::new()),
            Self::List(_) | Self::Items(_) => Value::Array(Vec::new()),
            _ => "".into(),
        }
    }
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Field>> = HashMap::new();
    let mut message = "";
    for line in TEXT
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(number), Some(name), Some(of)) => {
                let plain = name.trim_end_matches('!');
                let field = Field {
                    number: number.parse().unwrap_or(0),
                    name: plain,
                    keeps_zero: plain != name,
                    of: Type::parse(of),
                };
                table.entry(message).or_default().push(field);
            }
            _ => {
                message = line;
                table.entry(message).or_default();
            }
        }
    }
    table
});

/// The fields of a message; none for one that is not in the table.
pub(super) fn fields(message: &str) -> &'static [Field] {
    TABLE.get(message).map_or(&[], Vec::as_slice)
}

/// The message of a kind.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or(group);
    let own = format!("{package}.{version}.{kind}");
    // Options and Status stand in every version.
    let shared = format!("meta.v1.{kind}");
    let found = TABLE
        .get_key_value(own.as_str())
        .or_else(|| TABLE.get_key_value(shared.as_str()));
    found.map(|(message, _)| *message)
}

/// Every message that the table has or names.
#[cfg(test)]
pub(super) fn named() -> Vec<&'static str> {
    fn walk(of: &Type, out: &mut Vec<&'static str>) {
        match of {
            Type::Message(name) | Type::Choice(name) => out.push(name),
            Type::List(of) | Type::Map(of) | Type::Items(of) => walk(of, out),
            _ => {}
        }
    }
    let mut out: Vec<&'static str> = TABLE.keys().copied().collect();
    for field in TABLE.values().flatten() {
        walk(&field.of, &mut out);
    }
    out
}
