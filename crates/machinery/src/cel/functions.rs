//! Operators and functions.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::eval::{EvalError, Machine, Result};
use super::value::{self, Val};
use super::{Version, methods, named_format};
use crate::quantity::Quantity;

/// Names that stand before a dot in the names of functions.
pub(super) fn is_namespace(name: &str) -> bool {
    matches!(
        name,
        "optional" | "sets" | "ip" | "strings" | "lists" | "format" | "jsonpatch"
    )
}

/// The type that a name stands for.
pub(super) fn type_of_name(name: &str) -> Option<&'static str> {
    const TYPES: [&str; 10] = [
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
    ];
    TYPES.into_iter().find(|own| *own == name)
}

fn overflow() -> EvalError {
    EvalError::new("integer overflow")
}

/// An operator of two operands.
pub(super) fn binary<'a>(
    machine: &mut Machine<'a>,
    operator: &str,
    left: &Val<'a>,
    right: &Val<'a>,
) -> Result<'a> {
    match operator {
        "==" | "!=" => {
            machine.work(weight(left).min(weight(right)))?;
            let same = left.equals(right);
            Ok(Val::Bool(same == (operator == "==")))
        }
        "<" | "<=" | ">" | ">=" => {
            let nan = |v: &Val<'_>| matches!(v, Val::Double(n) if n.is_nan());
            let Some(order) = left.compare(right) else {
                return match nan(left) || nan(right) {
                    true => Ok(Val::Bool(false)),
                    false => Err(EvalError::overload()),
                };
            };
            Ok(Val::Bool(match operator {
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        "in" => match (right.items(), right) {
            (Some(items), _) => {
                machine.work(items.len())?;
                Ok(Val::Bool(items.iter().any(|item| item.equals(left))))
            }
            (None, Val::Map(_) | Val::Object(..)) => Ok(Val::Bool(right.get(left).is_some())),
            _ => Err(EvalError::overload()),
        },
        "+" => add(machine, left, right),
        _ => arithmetic(operator, left, right),
    }
}

/// About how much there is to compare.
fn weight(value: &Val<'_>) -> usize {
    match value {
        Val::Str(text) => text.len() / 64,
        Val::Bytes(bytes) => bytes.len() / 64,
        Val::Array(items, _) => items.len(),
        Val::Object(map, _) => map.len(),
        Val::List(items) => items.len(),
        Val::Map(pairs) => pairs.len(),
        _ => 1,
    }
}

fn add<'a>(machine: &mut Machine<'a>, left: &Val<'a>, right: &Val<'a>) -> Result<'a> {
    match (left, right) {
        (Val::Str(a), Val::Str(b)) => {
            machine.work((a.len() + b.len()) / 64)?;
            Ok(Val::Str(format!("{a}{b}").into()))
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            machine.work((a.len() + b.len()) / 64)?;
            Ok(Val::Bytes([&a[..], &b[..]].concat().into()))
        }
        (Val::Duration(a), Val::Duration(b)) => {
            a.checked_add(*b).map(Val::Duration).ok_or_else(overflow)
        }
        (Val::Time(t), Val::Duration(d)) | (Val::Duration(d), Val::Time(t)) => t
            .checked_add(*d)
            .map(Val::Time)
            .map_err(|_| EvalError::new("timestamp overflow")),
        (a, b) => match (a.items(), b.items()) {
            (Some(mut x), Some(y)) => {
                machine.work(x.len() + y.len())?;
                x.extend(y);
                Ok(Val::List(Arc::new(x)))
            }
            _ => arithmetic("+", a, b),
        },
    }
}

fn arithmetic<'a>(operator: &str, left: &Val<'a>, right: &Val<'a>) -> Result<'a> {
    let zero = || {
        EvalError::new(match operator {
            "%" => "modulus by zero",
            _ => "division by zero",
        })
    };
    match (left, right) {
        (Val::Int(a), Val::Int(b)) => match operator {
            "+" => a.checked_add(*b),
            "-" => a.checked_sub(*b),
            "*" => a.checked_mul(*b),
            _ if *b == 0 => return Err(zero()),
            "/" => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Val::Int)
        .ok_or_else(overflow),
        (Val::Uint(a), Val::Uint(b)) => match operator {
            "+" => a.checked_add(*b),
            "-" => a.checked_sub(*b),
            "*" => a.checked_mul(*b),
            _ if *b == 0 => return Err(zero()),
            "/" => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Val::Uint)
        .ok_or_else(overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match operator {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            _ => return Err(EvalError::overload()),
        })),
        (Val::Time(a), Val::Time(b)) if operator == "-" => Ok(Val::Duration(a.duration_since(*b))),
        (Val::Time(t), Val::Duration(d)) if operator == "-" => t
            .checked_sub(*d)
            .map(Val::Time)
            .map_err(|_| EvalError::new("timestamp overflow")),
        (Val::Duration(a), Val::Duration(b)) if operator == "-" => {
            a.checked_sub(*b).map(Val::Duration).ok_or_else(overflow)
        }
        _ => Err(EvalError::overload()),
    }
}

/// A function.
pub(super) fn call<'a>(machine: &mut Machine<'a>, name: &str, args: Vec<Val<'a>>) -> Result<'a> {
    match (name, args.as_slice()) {
        ("size", [value]) => size(value),
        ("matches", [target, _]) => methods::call(machine, target, name, &args[1..]),
        ("type", [value]) => Ok(Val::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes", [value]) => convert(name, value),
        ("duration", [Val::Str(text)]) => value::duration(text)
            .map(Val::Duration)
            .ok_or_else(|| EvalError::new(format!("time: invalid duration {text:?}"))),
        ("duration", [d @ Val::Duration(_)]) | ("timestamp", [d @ Val::Time(_)]) => Ok(d.clone()),
        ("timestamp", [Val::Str(text)]) => text
            .parse()
            .map(Val::Time)
            .map_err(|_| EvalError::new(format!("parsing time {text:?}"))),
        ("timestamp", [Val::Int(seconds)]) => Timestamp::from_second(*seconds)
            .map(Val::Time)
            .map_err(|_| EvalError::new("timestamp overflow")),
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.of", [value]) => Ok(Val::Optional(Some(Arc::new(value.clone())))),
        ("optional.ofNonZeroValue", [value]) => Ok(Val::Optional(
            (!is_zero(value)).then(|| Arc::new(value.clone())),
        )),
        ("quantity", [Val::Str(text)]) => match Quantity::parse(text) {
            Ok(quantity) => Ok(Val::Quantity(Arc::new(quantity))),
            Err(error) => Err(EvalError::new(error.to_string())),
        },
        ("isQuantity", [Val::Str(text)]) => Ok(Val::Bool(Quantity::parse(text).is_ok())),
        ("semver" | "isSemver", [Val::Str(text), rest @ ..]) => {
            let version = match rest {
                [] | [Val::Bool(false)] => Version::parse(text),
                [Val::Bool(true)] => Version::parse_lenient(text),
                _ => return Err(EvalError::overload()),
            };
            match (name, version) {
                ("semver", Ok(version)) => Ok(Val::Semver(Arc::new(version))),
                ("semver", Err(why)) => Err(EvalError::new(why)),
                (_, version) => Ok(Val::Bool(version.is_ok())),
            }
        }
        ("format.named", [Val::Str(name)]) => {
            let found = named_format::find(name).map(|own| Arc::new(Val::Format(own)));
            Ok(Val::Optional(found))
        }
        ("sign", [Val::Quantity(own)]) => Ok(Val::Int(own.signum().into())),
        ("ip", [Val::Str(text)]) => text.parse().map(Val::Ip).map_err(|_| {
            EvalError::new(format!(
                "IP Address {text:?} parse error during conversion from string"
            ))
        }),
        ("isIP", [Val::Str(text)]) => Ok(Val::Bool(text.parse::<std::net::IpAddr>().is_ok())),
        ("ip.isCanonical", [Val::Str(text)]) => match text.parse::<std::net::IpAddr>() {
            Ok(ip) => Ok(Val::Bool(ip.to_string() == **text)),
            Err(_) => Err(EvalError::new("IP Address parse error")),
        },
        ("cidr", [Val::Str(text)]) => text.parse().map(Val::Cidr).map_err(|_| {
            EvalError::new(format!(
                "network address parse error during conversion from string: {text}"
            ))
        }),
        ("isCIDR", [Val::Str(text)]) => Ok(Val::Bool(text.parse::<ipnet::IpNet>().is_ok())),
        ("url", [Val::Str(text)]) => match is_url(text) {
            true => Ok(Val::Url((**text).into())),
            false => Err(EvalError::new(format!(
                "URL parse error during conversion from string: {text}"
            ))),
        },
        ("isURL", [Val::Str(text)]) => Ok(Val::Bool(is_url(text))),
        ("sets.contains" | "sets.intersects" | "sets.equivalent", [a, b]) => {
            let (Some(x), Some(y)) = (a.items(), b.items()) else {
                return Err(EvalError::overload());
            };
            machine.work(x.len() + y.len())?;
            let has = |x: &[Val<'a>], v: &Val<'a>| x.iter().any(|own| own.equals(v));
            Ok(Val::Bool(match name {
                "sets.contains" => y.iter().all(|v| has(&x, v)),
                "sets.intersects" => y.iter().any(|v| has(&x, v)),
                _ => y.iter().all(|v| has(&x, v)) && x.iter().all(|v| has(&y, v)),
            }))
        }
        ("lists.range", [Val::Int(n)]) => {
            machine.work(usize::try_from(*n).unwrap_or(0))?;
            Ok(Val::List(Arc::new((0..*n).map(Val::Int).collect())))
        }
        ("strings.quote", [Val::Str(text)]) => Ok(Val::Str(format!("{text:?}").into())),
        (name, []) => match name.strip_prefix("format.").and_then(named_format::find) {
            Some(found) => Ok(Val::Format(found)),
            None => Err(EvalError::overload()),
        },
        ("jsonpatch.escapeKey", [Val::Str(text)]) => {
            Ok(Val::Str(text.replace('~', "~0").replace('/', "~1").into()))
        }
        _ => Err(EvalError::overload()),
    }
}

fn is_url(text: &str) -> bool {
    let absolute = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            && !rest.contains(char::is_whitespace)
    });
    absolute || (text.starts_with('/') && !text.contains(char::is_control))
}

pub(super) fn size<'a>(value: &Val<'a>) -> Result<'a> {
    let size = value.size().ok_or_else(EvalError::overload)?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(b) => !b,
        Val::Int(n) => *n == 0,
        Val::Uint(n) => *n == 0,
        Val::Double(n) => *n == 0.0,
        Val::Duration(d) => d.is_zero(),
        other => other.size() == Some(0),
    }
}

/// A value as text, as `string()` and messages show it.
pub(super) fn text_of(value: &Val<'_>) -> Option<String> {
    Some(match value {
        Val::Str(text) => text.to_string(),
        Val::Bool(b) => b.to_string(),
        Val::Int(n) => n.to_string(),
        Val::Uint(n) => n.to_string(),
        Val::Double(n) => n.to_string(),
        Val::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok()?,
        Val::Duration(d) => format!("{}s", d.as_secs_f64()),
        Val::Time(t) => t.to_string(),
        Val::Quantity(q) => q.to_string(),
        Val::Ip(ip) => ip.to_string(),
        Val::Cidr(cidr) => cidr.to_string(),
        Val::Url(url) => url.to_string(),
        Val::Null => "null".to_owned(),
        _ => return None,
    })
}

fn convert<'a>(to: &str, value: &Val<'a>) -> Result<'a> {
    let range = || EvalError::new("range error converting to the type");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the range is checked before"
    )]
    match (to, value) {
        ("int", Val::Int(_)) | ("uint", Val::Uint(_)) | ("double", Val::Double(_)) => {
            Ok(value.clone())
        }
        ("bool", Val::Bool(_)) | ("bytes", Val::Bytes(_)) => Ok(value.clone()),
        ("int", Val::Uint(n)) => i64::try_from(*n).map(Val::Int).map_err(|_| overflow()),
        ("int", Val::Double(n)) if n.abs() < 9.2e18 => Ok(Val::Int(*n as i64)),
        ("int", Val::Str(text)) => text.parse().map(Val::Int).map_err(|_| {
            EvalError::new(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        }),
        ("int", Val::Time(t)) => Ok(Val::Int(t.as_second())),
        ("int", Val::Duration(d)) => Ok(Val::Int(d.as_secs())),
        ("uint", Val::Int(n)) => u64::try_from(*n).map(Val::Uint).map_err(|_| overflow()),
        ("uint", Val::Double(n)) if (0.0..1.8e19).contains(n) => Ok(Val::Uint(*n as u64)),
        ("uint", Val::Str(text)) => text.parse().map(Val::Uint).map_err(|_| range()),
        ("double", Val::Int(n)) => Ok(Val::Double(*n as f64)),
        ("double", Val::Uint(n)) => Ok(Val::Double(*n as f64)),
        ("double", Val::Str(text)) => text.parse().map(Val::Double).map_err(|_| range()),
        ("bool", Val::Str(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Val::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Val::Bool(false)),
            _ => Err(range()),
        },
        ("bytes", Val::Str(text)) => Ok(Val::Bytes(text.as_bytes().into())),
        ("string", value) => match text_of(value) {
            Some(text) => Ok(Val::Str(text.into())),
            None => Err(EvalError::overload()),
        },
        ("int" | "uint", Val::Double(_)) => Err(range()),
        _ => Err(EvalError::overload()),
    }
}

/// Seconds of a duration, for those who count in other units.
pub(super) fn whole(duration: SignedDuration, unit: i64) -> i64 {
    duration.as_secs() / unit
}
