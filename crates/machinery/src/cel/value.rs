//! Values: those of JSON trees as they stand there, and those that are made.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::eval::EvalError;
use super::{NamedFormat, Version};
use crate::quantity::Quantity;
use crate::schema::ListType;
use crate::structural::{Additional, Structural, Type};

/// A value.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    Str(Cow<'a, str>),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// A list that was made.
    List(Arc<Vec<Val<'a>>>),
    /// A map that was made.
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    /// An object of a named type that was made.
    Struct(Arc<Made<'a>>),
    /// A list of a tree.
    Array(&'a [Value], Option<&'a Structural>),
    /// An object or map of a tree.
    Object(&'a Map<String, Value>, Option<&'a Structural>),
    /// `google.protobuf.Duration`
    Duration(SignedDuration),
    /// `google.protobuf.Timestamp`
    Time(Timestamp),
    /// A type.
    Type(&'static str),
    /// An optional value.
    Optional(Option<Arc<Val<'a>>>),
    /// A quantity of a resource.
    Quantity(Arc<Quantity>),
    /// An address.
    Ip(IpAddr),
    /// A range of addresses.
    Cidr(ipnet::IpNet),
    /// A URL.
    Url(Arc<str>),
    /// A semantic version.
    Semver(Arc<Version>),
    /// A format of texts.
    Format(&'static NamedFormat),
    /// A value that somebody else's functions know.
    Foreign(Arc<dyn Foreign<'a> + 'a>),
}

/// An object of a named type: `Object.spec{replicas: 1}`.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    /// The name of the type.
    pub name: &'a str,
    /// Its fields, in the order in which they stand there.
    pub fields: Vec<(&'a str, Val<'a>)>,
}

impl<'a> Made<'a> {
    /// The value of a field.
    pub fn get(&self, field: &str) -> Option<&Val<'a>> {
        let found = self.fields.iter().find(|(own, _)| *own == field)?;
        Some(&found.1)
    }
}

/// A value that is not made of data: an authorizer, variables that are worked out when they are asked for.
pub trait Foreign<'a>: std::fmt::Debug + Send + Sync {
    /// The name of its type.
    fn type_name(&self) -> &'static str;
    /// Calls one of its functions; none when it has no such function for such arguments.
    fn call(&self, name: &str, args: &[Val<'a>]) -> Option<Result<Val<'a>, EvalError>>;
    /// The value of a field and what it cost to work out; none when there is no such field.
    fn field(&self, _name: &str) -> Option<Result<Val<'a>, EvalError>> {
        None
    }
}

impl<'a> Val<'a> {
    /// A value of a tree, seen as its schema says.
    pub fn of(value: &'a Value, schema: Option<&'a Structural>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => {
                let double = schema.is_some_and(|s| s.kind == Type::Number && !s.int_or_string);
                match n.as_i64() {
                    Some(n) if !double => Self::Int(n),
                    _ => Self::Double(n.as_f64().unwrap_or(0.0)),
                }
            }
            Value::String(text) => Self::text(text, schema),
            Value::Array(items) => Self::Array(items, schema),
            Value::Object(map) => Self::Object(map, schema),
        }
    }

    fn text(text: &'a str, schema: Option<&'a Structural>) -> Self {
        let rare = schema.and_then(|s| s.rare.as_deref());
        let plain = Self::Str(text.into());
        match rare.map_or("", |r| &*r.format) {
            "date-time" => text.parse().map_or(plain, Self::Time),
            "date" => format!("{text}T00:00:00Z")
                .parse()
                .map_or(plain, Self::Time),
            "duration" => duration(text).map_or(plain, Self::Duration),
            "byte" => base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_or(plain, |bytes| Self::Bytes(bytes.into())),
            _ => plain,
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Option<Vec<Val<'a>>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::Array(items, schema) => {
                let schema = schema.and_then(|s| s.items.as_deref());
                Some(items.iter().map(|v| Self::of(v, schema)).collect())
            }
            _ => None,
        }
    }

    /// Keys and values of a map; what the schema of an object does not allow to be null is not there when it is.
    pub(super) fn pairs(&self) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        match self {
            Self::Map(pairs) => Some(pairs.to_vec()),
            Self::Object(map, schema) => {
                let pair = |(key, value): (&'a String, &'a Value)| {
                    let schema = schema.and_then(|s| s.child(key));
                    (Self::Str(key.as_str().into()), Self::of(value, schema))
                };
                Some(map.iter().map(pair).collect())
            }
            _ => None,
        }
    }

    /// The number of elements.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Str(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(items) => Some(items.len()),
            Self::Array(items, _) => Some(items.len()),
            Self::Map(pairs) => Some(pairs.len()),
            Self::Object(map, _) => Some(map.len()),
            _ => None,
        }
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &Self) -> Option<Self> {
        match (self, key) {
            (Self::Object(map, schema), Self::Str(key)) => {
                let value = map.get(&**key)?;
                Some(Self::of(value, schema.and_then(|s| s.child(key))))
            }
            (Self::Map(pairs), key) => {
                let found = pairs.iter().find(|(own, _)| own.equals(key))?;
                Some(found.1.clone())
            }
            _ => None,
        }
    }

    /// The field of an object, by the name that expressions have for it.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(map, schema) => {
                let named = schema.is_some_and(|s| !s.properties.is_empty());
                let own = if named { unescape(name) } else { name.into() };
                let value = map.get(&*own)?;
                let schema = schema.and_then(|s| s.child(&own));
                // What may not be null and is so is not there.
                if value.is_null() && schema.is_some_and(|s| !s.nullable) {
                    return None;
                }
                Some(Self::of(value, schema))
            }
            Self::Map(_) => self.get(&Self::Str(name.to_owned().into())),
            Self::Struct(own) => own.get(name).cloned(),
            _ => None,
        }
    }

    /// The name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) | Self::Array(..) => "list",
            Self::Map(_) | Self::Object(..) => "map",
            Self::Struct(_) => "object",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Foreign(own) => own.type_name(),
        }
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// There is no JSON for it: a map with keys that are no texts, a value that is not made of data.
    pub fn to_json(&self) -> Result<Value, String> {
        let text = |text: String| Ok(Value::String(text));
        match self {
            Self::Null | Self::Optional(None) => Ok(Value::Null),
            Self::Bool(b) => Ok((*b).into()),
            Self::Int(n) => Ok((*n).into()),
            Self::Uint(n) => Ok((*n).into()),
            Self::Double(n) => Ok((*n).into()),
            Self::Str(own) => text(own.to_string()),
            Self::Bytes(bytes) => text(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Duration(d) => text(format!("{}s", d.as_secs_f64())),
            Self::Time(t) => text(t.to_string()),
            Self::Optional(Some(inner)) => inner.to_json(),
            Self::Array(items, _) => Ok(Value::Array(items.to_vec())),
            Self::Object(map, _) => Ok(Value::Object((*map).clone())),
            Self::List(items) => {
                let items: Result<Vec<Value>, String> = items.iter().map(Self::to_json).collect();
                Ok(Value::Array(items?))
            }
            Self::Map(pairs) => {
                let mut map = Map::new();
                for (key, value) in pairs.iter() {
                    let Self::Str(name) = key else {
                        let kind = key.type_name();
                        return Err(format!("map key of type {kind} is not a string"));
                    };
                    map.insert(name.to_string(), value.to_json()?);
                }
                Ok(Value::Object(map))
            }
            Self::Struct(own) => {
                let mut map = Map::new();
                for (name, value) in &own.fields {
                    map.insert((*name).to_owned(), value.to_json()?);
                }
                Ok(Value::Object(map))
            }
            other => Err(format!("unsupported type {}", other.type_name())),
        }
    }

    /// Equality; values of different types are not equal.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Struct(a), Self::Struct(b)) => {
                let has = |(key, value): &(&str, Self)| b.get(key).is_some_and(|v| v.equals(value));
                a.name == b.name && a.fields.len() == b.fields.len() && a.fields.iter().all(has)
            }
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (a, b) if a.is_number() && b.is_number() => a.compare(b) == Some(Ordering::Equal),
            (a, b) => match ((a.items(), b.items()), (a.pairs(), b.pairs())) {
                ((Some(x), Some(y)), _) => same_items(a, b, &x, &y),
                (_, (Some(x), Some(y))) => {
                    let has =
                        |key: &Self, value: &Self| b.get(key).is_some_and(|v| v.equals(value));
                    x.len() == y.len() && x.iter().all(|(key, value)| has(key, value))
                }
                _ => false,
            },
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// The order of two values, if they have one.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of two types meet as doubles"
        )]
        fn double(value: &Val<'_>) -> f64 {
            match value {
                Val::Int(n) => *n as f64,
                Val::Uint(n) => *n as f64,
                Val::Double(n) => *n,
                _ => f64::NAN,
            }
        }
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (a, b) if a.is_number() && b.is_number() => double(a).partial_cmp(&double(b)),
            (Self::Str(a), Self::Str(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Lists are equal element by element; sets whatever their order, list maps by their keys.
fn same_items<'a>(a: &Val<'a>, b: &Val<'a>, x: &[Val<'a>], y: &[Val<'a>]) -> bool {
    let unordered = |v: &Val<'_>| match v {
        Val::Array(_, Some(schema)) => schema.list_type != ListType::Atomic,
        _ => false,
    };
    if x.len() != y.len() {
        return false;
    }
    if unordered(a) || unordered(b) {
        return x.iter().all(|x| y.iter().any(|y| x.equals(y)));
    }
    x.iter().zip(y).all(|(x, y)| x.equals(y))
}

/// Whether a field may be there at all.
pub(super) fn knows(schema: &Structural, name: &str) -> bool {
    schema.child(&unescape(name)).is_some()
        || matches!(schema.additional, Some(Additional::Bool(true)))
}

/// Words that no identifier may be, and that fields are escaped for.
pub const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name of a field as it stands in objects: expressions spell what is no identifier with escapes.
pub(super) fn unescape(name: &str) -> Cow<'_, str> {
    if !name.contains("__") {
        return name.into();
    }
    if let Some(word) = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return word.to_owned().into();
    }
    name.replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace("__underscores__", "__")
        .into()
}

/// A duration as Go reads it: `1h30m`.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    crate::duration::parse(text)
}
