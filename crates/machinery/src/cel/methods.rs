//! Functions of a target: `text.startsWith(x)`.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use super::Version;
use super::eval::{EvalError, Machine, Result};
use super::functions::{self, text_of};
use super::value::Val;
use crate::quantity::Quantity;
use crate::re2;

/// Calls a function of a target.
pub(super) fn call<'a>(
    machine: &mut Machine<'a>,
    target: &Val<'a>,
    name: &str,
    args: &[Val<'a>],
) -> Result<'a> {
    match (target, name) {
        (Val::Optional(inner), "hasValue") => Ok(Val::Bool(inner.is_some())),
        (Val::Optional(inner), "value") => match inner {
            Some(value) => Ok((**value).clone()),
            None => Err(EvalError::new("optional.none() dereference")),
        },
        (_, "size") if args.is_empty() => functions::size(target),
        (_, "includes") => match (args, target.items()) {
            ([x], Some(items)) => {
                machine.work(items.len())?;
                Ok(Val::Bool(items.iter().any(|item| item.equals(x))))
            }
            ([x], None) => Ok(Val::Bool(target.equals(x))),
            _ => Err(EvalError::overload()),
        },
        (Val::Str(text), _) => string(machine, text, name, args),
        (Val::List(_) | Val::Array(..), _) => list(machine, target, name, args),
        (Val::Time(time), _) => timestamp(*time, name, args),
        (Val::Duration(own), _) => duration(*own, name),
        (Val::Quantity(own), _) => quantity(own, name, args),
        (Val::Ip(ip), _) => Ok(match name {
            "family" => Val::Int(if ip.is_ipv4() { 4 } else { 6 }),
            "isUnspecified" => Val::Bool(ip.is_unspecified()),
            "isLoopback" => Val::Bool(ip.is_loopback()),
            "isLinkLocalMulticast" => Val::Bool(match ip {
                std::net::IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
                std::net::IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
            }),
            "isLinkLocalUnicast" => Val::Bool(match ip {
                std::net::IpAddr::V4(ip) => ip.is_link_local(),
                std::net::IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
            }),
            "isGlobalUnicast" => {
                Val::Bool(!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast())
            }
            _ => return Err(EvalError::overload()),
        }),
        (Val::Cidr(cidr), _) => network(cidr, name, args),
        (Val::Url(url), _) => address(url, name),
        (Val::Semver(own), _) => semver(own, name, args),
        (Val::Format(own), "validate") => match args {
            [Val::Str(text)] => {
                let problems = own.problems(text).into_iter();
                let problems: Vec<Val<'a>> = problems.map(|p| Val::Str(p.into())).collect();
                let found = (!problems.is_empty()).then(|| Val::List(Arc::new(problems)));
                Ok(Val::Optional(found.map(Arc::new)))
            }
            _ => Err(EvalError::overload()),
        },
        (Val::Foreign(own), _) => match own.call(name, args) {
            Some(result) => result,
            None => Err(EvalError::overload()),
        },
        _ => Err(EvalError::overload()),
    }
}

fn text<'v>(value: &'v Val<'_>) -> std::result::Result<&'v str, EvalError> {
    match value {
        Val::Str(text) => Ok(text),
        _ => Err(EvalError::overload()),
    }
}

fn regex(pattern: &str) -> std::result::Result<Regex, EvalError> {
    re2::compile(pattern).map_err(|error| EvalError::new(error.to_string()))
}

fn string<'a>(machine: &mut Machine<'a>, own: &str, name: &str, args: &[Val<'a>]) -> Result<'a> {
    machine.work(own.len() / 64)?;
    let made = |text: String| Ok(Val::Str(text.into()));
    let int = |n: usize| Val::Int(i64::try_from(n).unwrap_or(i64::MAX));
    match (name, args) {
        ("startsWith", [x]) => Ok(Val::Bool(own.starts_with(text(x)?))),
        ("endsWith", [x]) => Ok(Val::Bool(own.ends_with(text(x)?))),
        ("contains", [x]) => Ok(Val::Bool(own.contains(text(x)?))),
        ("matches", [x]) => Ok(Val::Bool(regex(text(x)?)?.is_match(own))),
        ("find", [x]) => {
            let found = regex(text(x)?)?;
            made(found.find(own).map_or("", |m| m.as_str()).to_owned())
        }
        ("findAll", [x, rest @ ..]) => {
            let limit = match rest {
                [] => usize::MAX,
                [Val::Int(n)] => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => return Err(EvalError::overload()),
            };
            let found = regex(text(x)?)?;
            let all = found.find_iter(own).take(limit);
            let all = all
                .map(|m| Val::Str(m.as_str().to_owned().into()))
                .collect();
            Ok(Val::List(Arc::new(all)))
        }
        ("charAt", [Val::Int(n)]) => {
            let count = own.chars().count();
            match usize::try_from(*n) {
                Ok(n) if n == count => made(String::new()),
                Ok(n) if n < count => made(own.chars().skip(n).take(1).collect()),
                _ => Err(EvalError::new(format!("index out of range: {n}"))),
            }
        }
        ("indexOf" | "lastIndexOf", [x, rest @ ..]) => {
            let wanted = text(x)?;
            let bounds = place(own, rest)?;
            let found = match (name, bounds) {
                ("indexOf", from) => {
                    let from = from.unwrap_or(0);
                    own[from..].find(wanted).map(|at| at + from)
                }
                (_, None) => own.rfind(wanted),
                // What begins there, or before.
                (_, Some(last)) => {
                    let mut all = own.char_indices().map(|(at, _)| at).chain([own.len()]);
                    let starts = all.by_ref().take_while(|at| *at <= last);
                    starts.filter(|at| own[*at..].starts_with(wanted)).last()
                }
            };
            Ok(found.map_or(Val::Int(-1), |at| int(own[..at].chars().count())))
        }
        ("lowerAscii", []) => made(own.to_ascii_lowercase()),
        ("upperAscii", []) => made(own.to_ascii_uppercase()),
        ("trim", []) => made(own.trim().to_owned()),
        ("replace", [from, to]) => {
            let replaced = own.replace(text(from)?, text(to)?);
            machine.work(replaced.len() / 64)?;
            made(replaced)
        }
        ("replace", [from, to, Val::Int(n)]) => {
            let count = usize::try_from(*n).unwrap_or(usize::MAX);
            let replaced = own.replacen(text(from)?, text(to)?, count);
            machine.work(replaced.len() / 64)?;
            made(replaced)
        }
        ("split", [separator, rest @ ..]) => {
            let separator = text(separator)?;
            let parts: Vec<&str> = match (rest, separator) {
                ([], "") => own.split("").filter(|p| !p.is_empty()).collect(),
                ([], separator) => own.split(separator).collect(),
                ([Val::Int(0)], _) => Vec::new(),
                ([Val::Int(n)], separator) if *n > 0 => own
                    .splitn(usize::try_from(*n).unwrap_or(1), separator)
                    .collect(),
                ([Val::Int(_)], separator) => own.split(separator).collect(),
                _ => return Err(EvalError::overload()),
            };
            machine.work(parts.len())?;
            let parts = parts.into_iter().map(|p| Val::Str(p.to_owned().into()));
            Ok(Val::List(Arc::new(parts.collect())))
        }
        ("substring", [Val::Int(from), rest @ ..]) => {
            let count = i64::try_from(own.chars().count()).unwrap_or(i64::MAX);
            let to = match rest {
                [] => count,
                [Val::Int(to)] => *to,
                _ => return Err(EvalError::overload()),
            };
            if *from < 0 || to > count || *from > to {
                return Err(EvalError::new(format!("index out of range: {from}")));
            }
            let (from, length) = (
                from.unsigned_abs() as usize,
                (to - from).unsigned_abs() as usize,
            );
            made(own.chars().skip(from).take(length).collect())
        }
        ("format", [values]) => format(machine, own, values),
        _ => Err(EvalError::overload()),
    }
}

/// The place in a text that an argument names, in bytes.
fn place(own: &str, args: &[Val<'_>]) -> std::result::Result<Option<usize>, EvalError> {
    let at = match args {
        [] => return Ok(None),
        [Val::Int(at)] => *at,
        _ => return Err(EvalError::overload()),
    };
    let outside = || EvalError::new(format!("index out of range: {at}"));
    let wanted = usize::try_from(at).map_err(|_| outside())?;
    let mut all = own.char_indices().map(|(at, _)| at).chain([own.len()]);
    all.nth(wanted).map(Some).ok_or_else(outside)
}

fn semver<'a>(own: &Version, name: &str, args: &[Val<'a>]) -> Result<'a> {
    let part = |n: usize| Ok(Val::Int(i64::try_from(own.numbers[n]).unwrap_or(i64::MAX)));
    match (name, args) {
        ("major", []) => part(0),
        ("minor", []) => part(1),
        ("patch", []) => part(2),
        ("compareTo", [Val::Semver(other)]) => Ok(Val::Int(own.cmp(other) as i64)),
        ("isLessThan", [Val::Semver(other)]) => Ok(Val::Bool(*own < **other)),
        ("isGreaterThan", [Val::Semver(other)]) => Ok(Val::Bool(*own > **other)),
        _ => Err(EvalError::overload()),
    }
}

/// `"%s is %d".format([a, b])`.
fn format<'a>(machine: &mut Machine<'a>, own: &str, values: &Val<'a>) -> Result<'a> {
    let values = values.items().ok_or_else(EvalError::overload)?;
    let mut values = values.iter();
    let mut out = String::new();
    let mut chars = own.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut digits = String::new();
        let mut verb = chars.next();
        if verb == Some('.') {
            verb = chars.next();
            while let Some(d) = verb.filter(char::is_ascii_digit) {
                digits.push(d);
                verb = chars.next();
            }
        }
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| EvalError::new("index out of range"))?;
        let precision: usize = digits.parse().unwrap_or(6).min(100);
        let shown = match (verb, value) {
            (Some('s'), value) => show(value),
            (Some('d'), Val::Int(_) | Val::Uint(_)) => show(value),
            (Some('f'), Val::Double(n)) => format!("{n:.precision$}"),
            (Some('x'), Val::Int(n)) => format!("{n:x}"),
            (Some('X'), Val::Int(n)) => format!("{n:X}"),
            (Some('o'), Val::Int(n)) => format!("{n:o}"),
            (Some('b'), Val::Int(n)) => format!("{n:b}"),
            (Some('e'), Val::Double(n)) => format!("{n:.precision$e}"),
            _ => {
                return Err(EvalError::new(
                    "error during formatting: unrecognized clause",
                ));
            }
        };
        machine.work(shown.len() / 8)?;
        out.push_str(&shown);
    }
    Ok(Val::Str(out.into()))
}

fn show(value: &Val<'_>) -> String {
    match (value.items(), value.pairs()) {
        (Some(items), _) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(", "))
        }
        (_, Some(pairs)) => {
            let mut pairs: Vec<String> = pairs
                .iter()
                .map(|(k, v)| format!("{}: {}", show(k), show(v)))
                .collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => text_of(value).unwrap_or_else(|| value.type_name().to_owned()),
    }
}

fn list<'a>(machine: &mut Machine<'a>, own: &Val<'a>, name: &str, args: &[Val<'a>]) -> Result<'a> {
    let items = own.items().ok_or_else(EvalError::overload)?;
    machine.work(items.len())?;
    let position = |mut all: Box<dyn Iterator<Item = usize> + '_>| {
        let found = all.next().and_then(|i| i64::try_from(i).ok());
        Ok(Val::Int(found.unwrap_or(-1)))
    };
    match (name, args) {
        ("isSorted", []) => {
            let sorted = items
                .windows(2)
                .all(|w| w[0].compare(&w[1]).is_some_and(|o| o != Ordering::Greater));
            Ok(Val::Bool(sorted))
        }
        ("sum", []) => {
            let mut items = items.into_iter();
            let first = items.next().unwrap_or(Val::Int(0));
            items.try_fold(first, |sum, v| functions::binary(machine, "+", &sum, &v))
        }
        ("min" | "max", []) => {
            let wanted = if name == "min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let better = |a: Val<'a>, b: Val<'a>| match b.compare(&a) == Some(wanted) {
                true => b,
                false => a,
            };
            let empty = || EvalError::new(format!("{name} called on empty list"));
            items.into_iter().reduce(better).ok_or_else(empty)
        }
        ("indexOf", [x]) => position(Box::new((0..items.len()).filter(|i| items[*i].equals(x)))),
        ("lastIndexOf", [x]) => position(Box::new(
            (0..items.len()).rev().filter(|i| items[*i].equals(x)),
        )),
        ("join", rest @ ([] | [Val::Str(_)])) => {
            let separator = rest.first().map_or(Ok(""), text)?;
            let parts: std::result::Result<Vec<&str>, _> = items.iter().map(text).collect();
            let joined = parts?.join(separator);
            machine.work(joined.len() / 64)?;
            Ok(Val::Str(joined.into()))
        }
        ("distinct", []) => {
            machine.work(items.len() * items.len() / 2)?;
            let mut kept: Vec<Val<'a>> = Vec::new();
            for item in items {
                if !kept.iter().any(|k| k.equals(&item)) {
                    kept.push(item);
                }
            }
            Ok(Val::List(Arc::new(kept)))
        }
        ("reverse", []) => Ok(Val::List(Arc::new(items.into_iter().rev().collect()))),
        ("@sortByAssociatedKeys", [keys]) => {
            let keys = keys.items().ok_or_else(EvalError::overload)?;
            let mut pairs: Vec<(Val<'a>, Val<'a>)> = keys.into_iter().zip(items).collect();
            pairs.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
            Ok(Val::List(Arc::new(
                pairs.into_iter().map(|(_, v)| v).collect(),
            )))
        }
        ("sort", []) => {
            let mut items = items;
            items.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
            Ok(Val::List(Arc::new(items)))
        }
        ("flatten", []) => {
            let all = items
                .into_iter()
                .flat_map(|v| v.items().unwrap_or_else(|| vec![v.clone()]));
            Ok(Val::List(Arc::new(all.collect())))
        }
        ("slice", [Val::Int(from), Val::Int(to)]) => {
            let bounds = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            let slice = bounds.and_then(|(from, to)| items.get(from..to));
            let outside = || EvalError::new("slice: index out of bounds");
            Ok(Val::List(Arc::new(slice.ok_or_else(outside)?.to_vec())))
        }
        ("first" | "last", []) => {
            let found = if name == "first" {
                items.first()
            } else {
                items.last()
            };
            Ok(Val::Optional(found.map(|v| Arc::new(v.clone()))))
        }
        _ => Err(EvalError::overload()),
    }
}

fn timestamp<'a>(time: Timestamp, name: &str, args: &[Val<'a>]) -> Result<'a> {
    let zone = match args {
        [] => TimeZone::UTC,
        [Val::Str(zone)] => {
            let offset = || {
                let (hours, minutes) = zone.split_once(':')?;
                let hours: i32 = hours.parse().ok()?;
                let minutes: i32 = minutes.parse().ok()?;
                let seconds = hours * 3600 + hours.signum() * minutes * 60;
                Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
            };
            let unknown = || EvalError::new(format!("unknown time zone {zone}"));
            match &**zone {
                "UTC" | "Z" => TimeZone::UTC,
                _ => offset().ok_or_else(unknown)?,
            }
        }
        _ => return Err(EvalError::overload()),
    };
    let local = time.to_zoned(zone);
    let day = |day: i8| i64::from(day);
    Ok(Val::Int(match name {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => day(local.month()) - 1,
        "getDate" => day(local.day()),
        "getDayOfMonth" => day(local.day()) - 1,
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getHours" => day(local.hour()),
        "getMinutes" => day(local.minute()),
        "getSeconds" => day(local.second()),
        "getMilliseconds" => i64::from(local.millisecond()),
        _ => return Err(EvalError::overload()),
    }))
}

fn duration<'a>(own: SignedDuration, name: &str) -> Result<'a> {
    Ok(Val::Int(match name {
        "getHours" => functions::whole(own, 3600),
        "getMinutes" => functions::whole(own, 60),
        "getSeconds" => own.as_secs(),
        "getMilliseconds" => i64::try_from(own.as_millis()).unwrap_or(i64::MAX),
        _ => return Err(EvalError::overload()),
    }))
}

fn quantity<'a>(own: &Quantity, name: &str, args: &[Val<'a>]) -> Result<'a> {
    let order = |order: Ordering| Val::Int(order as i64);
    Ok(match (name, args) {
        ("compareTo", [Val::Quantity(other)]) => order(own.cmp(other)),
        ("isLessThan", [Val::Quantity(other)]) => Val::Bool(own.cmp(other) == Ordering::Less),
        ("isGreaterThan", [Val::Quantity(other)]) => Val::Bool(own.cmp(other) == Ordering::Greater),
        ("isInteger", []) => Val::Bool(is_integer(own)),
        ("asInteger", []) => match is_integer(own) {
            true => Val::Int(own.value()),
            false => return Err(EvalError::new("cannot convert value to integer")),
        },
        ("asApproximateFloat", []) => Val::Double(own.approximate()),
        ("add" | "sub", [other]) => {
            let other = match other {
                Val::Quantity(other) => (**other).clone(),
                Val::Int(n) => Quantity::from_int(*n, own.format()),
                _ => return Err(EvalError::overload()),
            };
            let mut made = own.clone();
            match name {
                "add" => made.add(&other),
                _ => made.sub(&other),
            }
            Val::Quantity(Arc::new(made))
        }
        _ => return Err(EvalError::overload()),
    })
}

fn is_integer(own: &Quantity) -> bool {
    Quantity::from_int(own.value(), own.format()) == *own
}

fn network<'a>(own: &ipnet::IpNet, name: &str, args: &[Val<'a>]) -> Result<'a> {
    Ok(match (name, args) {
        ("ip", []) => Val::Ip(own.addr()),
        ("masked", []) => Val::Cidr(own.trunc()),
        ("prefixLength", []) => Val::Int(own.prefix_len().into()),
        ("containsIP", [Val::Ip(ip)]) => Val::Bool(own.contains(ip)),
        ("containsIP", [Val::Str(ip)]) => match ip.parse::<std::net::IpAddr>() {
            Ok(ip) => Val::Bool(own.contains(&ip)),
            Err(error) => return Err(EvalError::new(error.to_string())),
        },
        ("containsCIDR", [Val::Cidr(other)]) => Val::Bool(own.contains(other)),
        ("containsCIDR", [Val::Str(other)]) => match other.parse::<ipnet::IpNet>() {
            Ok(other) => Val::Bool(own.contains(&other)),
            Err(error) => return Err(EvalError::new(error.to_string())),
        },
        _ => return Err(EvalError::overload()),
    })
}

fn address<'a>(url: &str, name: &str) -> Result<'a> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = match (scheme, rest.find(['/', '?', '#'])) {
        ("", _) => ("", rest),
        (_, Some(at)) => rest.split_at(at),
        (_, None) => (rest, ""),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let port = host
        .rsplit_once(':')
        .filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let text = |text: &str| Ok(Val::Str(text.to_owned().into()));
    match name {
        "getScheme" => text(scheme),
        "getHost" => text(host),
        "getHostname" => text(port.map_or(host, |(host, _)| host).trim_matches(['[', ']'])),
        "getPort" => text(port.map_or("", |(_, port)| port)),
        "getEscapedPath" => text(path.split('#').next().unwrap_or("")),
        "getQuery" => {
            let query = query.split('#').next().unwrap_or("");
            let mut pairs: Vec<(String, Vec<Val<'a>>)> = Vec::new();
            for part in query.split('&').filter(|p| !p.is_empty()) {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                let value = Val::Str(value.to_owned().into());
                match pairs.iter_mut().find(|(own, _)| own == key) {
                    Some((_, values)) => values.push(value),
                    None => pairs.push((key.to_owned(), vec![value])),
                }
            }
            let pairs = pairs.into_iter();
            let pairs = pairs.map(|(k, v)| (Val::Str(k.into()), Val::List(Arc::new(v))));
            Ok(Val::Map(Arc::new(pairs.collect())))
        }
        _ => Err(EvalError::overload()),
    }
}
