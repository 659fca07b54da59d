//! The table of fields, read once when the first client speaks protobuf.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

static TEXT: &str = include_str!("fields.txt");

/// One message.
pub(super) struct Message {
    /// As errors call it.
    pub(super) name: &'static str,
    /// In the order of their numbers, as they are written.
    pub(super) fields: Vec<Field>,
}

/// Where a message stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageId(usize);

impl MessageId {
    pub(super) fn get(self) -> &'static Message {
        &TABLE.messages[self.0]
    }
}

/// One field of a message.
pub(super) struct Field {
    pub(super) number: u64,
    /// The JSON name; `-` stands for the fields of an embedded message.
    pub(super) name: &'static str,
    /// A zero that was sent means something.
    pub(super) keeps_zero: bool,
    /// What JSON says where there is no value.
    pub(super) absent: Absent,
    pub(super) of: Type,
}

/// What JSON says of a field without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nothing.
    Omitted,
    /// The zero of the type.
    Zero,
    /// Null.
    Null,
    /// An object, with whatever its own fields say.
    Object,
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
    Message(MessageId),
    List(Box<Type>),
    Map(Box<Type>),
    /// A list inside a message of its own.
    Items(Box<Type>),
    /// A message of alternatives, which in JSON is the one that was chosen: the field `schema`, or else the other.
    Choice(MessageId),
}

impl Type {
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

/// All messages, and where each stands.
#[derive(Default)]
struct Table {
    messages: Vec<Message>,
    places: HashMap<&'static str, MessageId>,
}

impl Table {
    /// The place of a message; one that is only named so far gets one without fields.
    fn place(&mut self, name: &'static str) -> MessageId {
        let Self { messages, places } = self;
        *places.entry(name).or_insert_with(|| {
            messages.push(Message {
                name,
                fields: Vec::new(),
            });
            MessageId(messages.len() - 1)
        })
    }

    fn parse_type(&mut self, text: &'static str) -> Type {
        if let Some(of) = text.strip_prefix("[]") {
            return Type::List(Box::new(self.parse_type(of)));
        }
        if let Some(of) = text.strip_prefix("{}") {
            return Type::Map(Box::new(self.parse_type(of)));
        }
        if let Some(of) = text.strip_prefix("Items") {
            return Type::Items(Box::new(self.parse_type(of)));
        }
        if let Some(message) = text.strip_prefix("Choice") {
            return Type::Choice(self.place(message));
        }
        match text {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int" | "Duration" => Type::Int,
            "float" => Type::Float,
            "bytes" => Type::Bytes,
            "Quantity" => Type::Quantity,
            "IntOrString" => Type::IntOrString,
            "Time" => Type::Time,
            "MicroTime" => Type::MicroTime,
            "FieldsV1" | "RawExtension" => Type::Json,
            message => Type::Message(self.place(message)),
        }
    }

    fn parse(text: &'static str) -> Self {
        let mut table = Self::default();
        let mut message = None;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next(), message) {
                (Some(number), Some(name), Some(of), Some(MessageId(at))) => {
                    let (name, absent) = match name.as_bytes().last() {
                        Some(b'+') => (&name[..name.len() - 1], Absent::Zero),
                        Some(b'~') => (&name[..name.len() - 1], Absent::Null),
                        Some(b'=') => (&name[..name.len() - 1], Absent::Object),
                        _ => (name, Absent::Omitted),
                    };
                    let plain = name.trim_end_matches('!');
                    let field = Field {
                        number: number.parse().unwrap_or(0),
                        name: plain,
                        keeps_zero: plain != name,
                        absent,
                        of: table.parse_type(of),
                    };
                    table.messages[at].fields.push(field);
                }
                _ => message = Some(table.place(line)),
            }
        }
        for message in &mut table.messages {
            message.fields.sort_by_key(|field| field.number);
        }
        table
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(TEXT));

/// The message of a kind.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<MessageId> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or(group);
    let own = format!("{package}.{version}.{kind}");
    // Options, Status and partial metadata stand in every version.
    let found = TABLE.places.get(own.as_str());
    found
        .or_else(|| TABLE.places.get(format!("meta.v1.{kind}").as_str()))
        .copied()
}

/// Every message that the table has or names.
#[cfg(test)]
pub(super) fn named() -> &'static [Message] {
    &TABLE.messages
}
