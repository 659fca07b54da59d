//! What a call costs while an expression runs, to the unit as the reference counts it, so that limits trip at the same places.
//!
//! Texts cost by their length, lists by their elements, regular expressions by both lengths; what is not named here costs one.
//! Behaviour: `github.com/google/cel-go/interpreter/runtimecost.go`, `.../ext/lists.go`,
//! `k8s.io/apiserver/pkg/cel/library/cost.go` (`CallCost`).

use super::value::Val;

pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;
pub(super) const STRUCT: u64 = 40;
/// One question to the authorizer: two fit into an expression.
const AUTHORIZATION: u64 = 350_000;
/// Looking through a text, for each letter.
const TEXT: f64 = 0.1;
/// Running a regular expression, for each letter of it.
const REGEX: f64 = 0.25;

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below where it matters"
)]
fn up(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below where it matters"
)]
fn down(size: u64, factor: f64) -> u64 {
    (size as f64 * factor) as u64
}

/// Letters, bytes, elements; one for what has no size.
fn size(value: &Val<'_>) -> u64 {
    match value {
        Val::Optional(Some(inner)) => size(inner),
        // As many bytes as its prefix covers.
        Val::Cidr(cidr) => u64::from(cidr.prefix_len()).div_ceil(8),
        Val::Ip(ip) => match ip {
            std::net::IpAddr::V4(_) => 4,
            std::net::IpAddr::V6(_) => 16,
        },
        value => value.size().map_or(1, |size| size as u64),
    }
}

/// Going through all of it once.
fn traversal(value: &Val<'_>) -> u64 {
    match value {
        Val::Str(text) => down(text.len() as u64, TEXT),
        Val::Bytes(bytes) => down(bytes.len() as u64, TEXT),
        value => match (value.items(), value.pairs()) {
            (Some(items), _) => items.iter().map(traversal).sum(),
            (_, Some(pairs)) => pairs.iter().map(|(k, v)| traversal(k) + traversal(v)).sum(),
            _ => 1,
        },
    }
}

fn pattern(text: u64, regex: u64) -> u64 {
    up(1 + text, TEXT).saturating_mul(up(regex, REGEX))
}

/// An operator; `open` when the types of its operands are not known before it runs: then it is taken for a cheap one.
pub(super) fn operator(operator: &str, left: &Val<'_>, right: &Val<'_>, open: bool) -> u64 {
    let is_text = |v: &Val<'_>| matches!(v, Val::Str(_) | Val::Bytes(_));
    match operator {
        "==" | "!=" => match left {
            Val::Quantity(_)
            | Val::Ip(_)
            | Val::Cidr(_)
            | Val::Format(_)
            | Val::Url(_)
            | Val::Semver(_)
            | Val::Foreign(_) => 1,
            left => up(size(left).min(size(right)), TEXT),
        },
        _ if open => 1,
        "<" | "<=" | ">" | ">=" if is_text(left) => up(size(left).min(size(right)), TEXT),
        "+" if is_text(left) => up(size(left) + size(right), TEXT),
        "in" if matches!(right, Val::List(_) | Val::Array(..)) => size(right),
        _ => 1,
    }
}

/// A list that is made by going through another as many times as it has elements.
fn compared(list: &Val<'_>) -> u64 {
    let all = size(list);
    let first = list.items().and_then(|items| items.into_iter().next());
    let factor = match first {
        Some(Val::Str(_) | Val::Bytes(_)) => 2.0 + TEXT,
        _ => 2.0,
    };
    down(all.saturating_mul(all), factor) + 1 + LIST
}

/// A function. The target of a method is the first argument.
pub(super) fn call(name: &str, args: &[&Val<'_>]) -> u64 {
    let first = args.first().map_or(0, |v| size(v));
    let second = args.get(1).map_or(0, |v| size(v));
    let is_text = |place: usize| matches!(args.get(place), Some(Val::Str(_)));
    match name {
        "check" if matches!(args.first(), Some(Val::Foreign(_))) => AUTHORIZATION,
        "fieldSelector" | "labelSelector" => {
            LIST + up(second, TEXT) + up(second, 0.5) * (LIST + STRUCT)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(0, |v| traversal(v))
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "strings.quote"
        | "format"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => up(first, TEXT),
        "cidr" | "ip" if is_text(0) => up(first, TEXT),
        "ip.isCanonical" | "replace" | "split" => up(first, 2.0 * TEXT),
        "startsWith" | "endsWith" => up(second, TEXT),
        "contains" => up(first, TEXT) * up(second, TEXT),
        "matches" | "find" | "findAll" => pattern(first, second),
        "string" if matches!(args.first(), Some(Val::Bytes(_))) => up(first, TEXT),
        "bytes" if is_text(0) => up(first, TEXT),
        "containsIP" | "containsCIDR" => {
            let parsed = if is_text(1) { up(second, TEXT) } else { 0 };
            let masked = match name {
                "containsCIDR" => up(first, TEXT) + 1,
                _ => 0,
            };
            up(2 * first, TEXT) + masked + parsed
        }
        "validate" => match args.first() {
            Some(Val::Format(format)) => pattern(second, format.size as u64),
            _ => 1,
        },
        "sets.contains" | "sets.intersects" => 1 + first.saturating_mul(second),
        "sets.equivalent" => 1 + first.saturating_mul(second).saturating_mul(2),
        "distinct" | "sort" => args.first().map_or(1, |v| compared(v)),
        "@sortByAssociatedKeys" => args.get(1).map_or(1, |v| compared(v)),
        "flatten" | "reverse" => first + 1 + LIST,
        "slice" => match args {
            [_, Val::Int(from), Val::Int(to)] => {
                u64::try_from(to.saturating_sub(*from)).unwrap_or(0) + 1 + LIST
            }
            _ => 1,
        },
        "lists.range" => match args {
            [Val::Int(n)] => u64::try_from(*n).unwrap_or(0) + 1 + LIST,
            _ => 1,
        },
        // By what they give, see below; what has no cost of its own at all.
        "join" | "orValue" | "or" => 0,
        _ => 1,
    }
}

/// What a function costs beyond that, told by what it gave.
pub(super) fn result(name: &str, result: &Val<'_>) -> u64 {
    match name {
        "join" => up(size(result), 2.0 * TEXT),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
