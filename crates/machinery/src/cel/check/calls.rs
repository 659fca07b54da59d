//! What operators, functions and methods take and give.

use super::super::named_format;
use super::super::tree::Issue;
use super::{Checked, Ty, no_overload};

pub(super) fn binary<'a>(at: usize, operator: &str, left: Ty<'a>, right: Ty<'a>) -> Checked<'a> {
    let numbers = left.is_number() && right.is_number();
    let either_dyn = left.is_dyn() || right.is_dyn();
    let same = left.fits(&right);
    let list = matches!((&left, &right), (Ty::List(_), Ty::List(_)));
    let found = match operator {
        "==" | "!=" => {
            let null = matches!(left, Ty::Null) || matches!(right, Ty::Null);
            (same || numbers || null).then_some(Ty::Bool)
        }
        "<" | "<=" | ">" | ">=" => {
            let ordered = !matches!(
                left,
                Ty::List(_)
                    | Ty::Map(..)
                    | Ty::Object(_)
                    | Ty::Null
                    | Ty::Optional(_)
                    | Ty::Other(_)
            );
            ((same && ordered) || numbers || either_dyn).then_some(Ty::Bool)
        }
        "in" => match &right {
            Ty::Dyn | Ty::Free => Some(Ty::Bool),
            Ty::List(of) if of.fits(&left) || (of.is_number() && left.is_number()) => {
                Some(Ty::Bool)
            }
            Ty::Map(key, _) if key.fits(&left) => Some(Ty::Bool),
            Ty::Object(_) if Ty::String.fits(&left) => Some(Ty::Bool),
            _ => None,
        },
        _ if either_dyn => Some(if left.is_dyn() {
            right.clone()
        } else {
            left.clone()
        })
        .map(|other| {
            if matches!(other, Ty::Time | Ty::Duration) {
                Ty::Dyn
            } else {
                other
            }
        }),
        "+" => match (&left, &right) {
            (Ty::Time, Ty::Duration) | (Ty::Duration, Ty::Time) => Some(Ty::Time),
            (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
            (Ty::String, Ty::String) | (Ty::Bytes, Ty::Bytes) => Some(left.clone()),
            _ if list && same => left.join(&right),
            _ if numbers && same => Some(left.clone()),
            _ => None,
        },
        "-" => match (&left, &right) {
            (Ty::Time, Ty::Time) | (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
            (Ty::Time, Ty::Duration) => Some(Ty::Time),
            _ if numbers && same => Some(left.clone()),
            _ => None,
        },
        "%" if matches!(left, Ty::Double) => None,
        _ => (numbers && same).then(|| left.clone()),
    };
    match found {
        Some(found) => Ok(found),
        None => {
            let shown = match operator {
                "in" => "@in".to_owned(),
                operator => format!("_{operator}_"),
            };
            no_overload(at, &shown, &[left, right], false)
        }
    }
}

const QUANTITY: Ty<'static> = Ty::Other("kubernetes.Quantity");
const SEMVER: Ty<'static> = Ty::Other("kubernetes.Semver");
const FORMAT: Ty<'static> = Ty::Other("kubernetes.NamedFormat");

/// `format.uuid` and the like.
fn is_format(name: &str) -> bool {
    let own = name.strip_prefix("format.");
    own.and_then(named_format::find).is_some()
}

pub(super) fn function<'a>(at: usize, name: &str, args: &[Ty<'a>]) -> Checked<'a> {
    let is = |i: usize, wanted: &[Ty<'_>]| {
        args.get(i)
            .is_some_and(|own| wanted.is_empty() || wanted.iter().any(|w| w.fits(own)))
    };
    let one = |wanted: &[Ty<'_>]| args.len() == 1 && is(0, wanted);
    let first = || args.first().cloned().unwrap_or(Ty::Dyn);
    let string = || one(&[Ty::String]);
    let sized = || {
        matches!(
            first(),
            Ty::Dyn | Ty::Free | Ty::String | Ty::Bytes | Ty::List(_) | Ty::Map(..) | Ty::Object(_)
        )
    };
    let known = match name {
        "size" => (args.len() == 1 && sized()).then_some(Ty::Int),
        "matches" => {
            (args.len() == 2 && is(0, &[Ty::String]) && is(1, &[Ty::String])).then_some(Ty::Bool)
        }
        "type" => one(&[]).then_some(Ty::Type),
        "dyn" => one(&[]).then_some(Ty::Dyn),
        "int" => one(&[]).then_some(Ty::Int),
        "uint" => one(&[]).then_some(Ty::Uint),
        "double" => one(&[]).then_some(Ty::Double),
        "bool" => one(&[Ty::Bool, Ty::String]).then_some(Ty::Bool),
        "string" => one(&[]).then_some(Ty::String),
        "bytes" => one(&[Ty::String, Ty::Bytes]).then_some(Ty::Bytes),
        "duration" => one(&[Ty::String, Ty::Duration]).then_some(Ty::Duration),
        "timestamp" => one(&[Ty::String, Ty::Time, Ty::Int]).then_some(Ty::Time),
        "optional.none" => args.is_empty().then(|| Ty::Optional(Box::new(Ty::Free))),
        "optional.of" | "optional.ofNonZeroValue" => {
            one(&[]).then(|| Ty::Optional(Box::new(first())))
        }
        "quantity" => string().then_some(QUANTITY),
        "isQuantity" | "isIP" | "isCIDR" | "isURL" | "ip.isCanonical" => {
            string().then_some(Ty::Bool)
        }
        "ip" => string().then_some(Ty::Other("net.IP")),
        "cidr" => string().then_some(Ty::Other("net.CIDR")),
        "url" => string().then_some(Ty::Other("kubernetes.URL")),
        "sign" => one(&[QUANTITY]).then_some(Ty::Int),
        "semver" | "isSemver" => {
            let lenient = args.len() == 2 && is(0, &[Ty::String]) && is(1, &[Ty::Bool]);
            let made = match name {
                "semver" => SEMVER,
                _ => Ty::Bool,
            };
            (lenient || string()).then_some(made)
        }
        "format.named" => string().then(|| Ty::Optional(Box::new(FORMAT))),
        name if is_format(name) => args.is_empty().then_some(FORMAT),
        "sets.contains" | "sets.intersects" | "sets.equivalent" => {
            let lists = args
                .iter()
                .all(|a| matches!(a, Ty::List(_) | Ty::Dyn | Ty::Free));
            (args.len() == 2 && lists).then_some(Ty::Bool)
        }
        "lists.range" => one(&[Ty::Int]).then(|| Ty::List(Box::new(Ty::Int))),
        "strings.quote" => string().then_some(Ty::String),
        "jsonpatch.escapeKey" => string().then_some(Ty::String),
        _ => {
            let why = format!("undeclared reference to '{name}' (in container '')");
            return Err(Issue::new(at, why));
        }
    };
    match known {
        Some(known) => Ok(known),
        None => no_overload(at, name, args, false),
    }
}

const STRING_METHODS: &str = "startsWith endsWith contains matches find findAll charAt indexOf lastIndexOf lowerAscii \
    upperAscii trim replace split substring format size";
const LIST_METHODS: &str = "isSorted sum min max indexOf lastIndexOf join distinct reverse sort flatten slice first last size \
    @sortByAssociatedKeys";
const TIME_METHODS: &str = "getFullYear getMonth getDate getDayOfMonth getDayOfYear getDayOfWeek getHours getMinutes \
    getSeconds getMilliseconds";
const OTHER_METHODS: &str = "hasValue value or orValue compareTo isLessThan isGreaterThan isInteger family isUnspecified \
    isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast ip masked prefixLength containsIP containsCIDR getScheme \
    getHost getHostname getPort getEscapedPath getQuery path group serviceAccount resource subresource namespace name \
    fieldSelector labelSelector check errored error allowed reason asInteger asApproximateFloat add sub major minor patch \
    validate includes";
/// Whatever they are called on, they give a truth.
const TRUTHS: &str = "startsWith endsWith contains matches isSorted hasValue isLessThan isGreaterThan isInteger \
    isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast containsIP containsCIDR errored allowed \
    includes";
/// They give a whole number.
const NUMBERS: &str =
    "size indexOf lastIndexOf compareTo family prefixLength sign asInteger major minor patch";
/// They give a text.
const TEXTS: &str = "lowerAscii upperAscii replace substring trim charAt format join find getScheme getHost getHostname \
    getPort getEscapedPath error reason";
const AUTHORIZATION: &str = "kubernetes.authorization.";

/// What a function gives when it is not known what it is called on: the type that it always gives, if there is one.
fn of_any<'a>(name: &str) -> Ty<'a> {
    if is_one_of(name, TRUTHS) {
        return Ty::Bool;
    }
    if is_one_of(name, NUMBERS) || is_one_of(name, TIME_METHODS) {
        return Ty::Int;
    }
    if is_one_of(name, TEXTS) {
        return Ty::String;
    }
    match name {
        "split" | "findAll" => Ty::List(Box::new(Ty::String)),
        "sort" | "distinct" | "flatten" | "slice" | "@sortByAssociatedKeys" => {
            Ty::List(Box::new(Ty::Dyn))
        }
        "first" | "last" => Ty::Optional(Box::new(Ty::Dyn)),
        "asApproximateFloat" => Ty::Double,
        _ => Ty::Dyn,
    }
}

fn is_one_of(name: &str, all: &str) -> bool {
    all.split_whitespace().any(|own| own == name)
}

pub(super) fn method<'a>(at: usize, target: Ty<'a>, name: &str, args: &[Ty<'a>]) -> Checked<'a> {
    let everything = [STRING_METHODS, LIST_METHODS, TIME_METHODS, OTHER_METHODS];
    if !everything.iter().any(|all| is_one_of(name, all)) {
        let why = format!("undeclared reference to '{name}' (in container '')");
        return Err(Issue::new(at, why));
    }
    let texts = || {
        args.iter()
            .all(|a| matches!(a, Ty::String | Ty::Dyn | Ty::Free))
    };
    let found = match &target {
        Ty::Dyn | Ty::Free => Some(of_any(name)),
        _ if name == "includes" => (args.len() == 1).then_some(Ty::Bool),
        Ty::String if is_one_of(name, STRING_METHODS) => match name {
            "startsWith" | "endsWith" | "contains" | "matches" => {
                (args.len() == 1 && texts()).then_some(Ty::Bool)
            }
            "indexOf" | "lastIndexOf" | "size" => Some(Ty::Int),
            "split" | "findAll" => Some(Ty::List(Box::new(Ty::String))),
            _ => Some(Ty::String),
        },
        Ty::List(of) if is_one_of(name, LIST_METHODS) => match name {
            "isSorted" => Some(Ty::Bool),
            "indexOf" | "lastIndexOf" | "size" => Some(Ty::Int),
            "join" => (of.fits(&Ty::String) && texts()).then_some(Ty::String),
            "sum" | "min" | "max" => Some((**of).clone()),
            "first" | "last" => Some(Ty::Optional(of.clone())),
            "flatten" => Some(Ty::List(Box::new(Ty::Dyn))),
            _ => Some(Ty::List(of.clone())),
        },
        Ty::Bytes | Ty::Map(..) | Ty::Object(_) if name == "size" => Some(Ty::Int),
        Ty::Time if is_one_of(name, TIME_METHODS) => Some(Ty::Int),
        Ty::Duration
            if matches!(
                name,
                "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds"
            ) =>
        {
            Some(Ty::Int)
        }
        Ty::Optional(of) => match name {
            "hasValue" => Some(Ty::Bool),
            "value" | "orValue" => Some((**of).clone()),
            "or" => Some(target.clone()),
            _ => None,
        },
        Ty::Other("kubernetes.Quantity") => match name {
            "isLessThan" | "isGreaterThan" | "isInteger" => Some(Ty::Bool),
            "compareTo" | "asInteger" => Some(Ty::Int),
            "asApproximateFloat" => Some(Ty::Double),
            "add" | "sub" => Some(QUANTITY),
            _ => None,
        },
        Ty::Other("kubernetes.Semver") => match name {
            "isLessThan" | "isGreaterThan" => Some(Ty::Bool),
            "compareTo" | "major" | "minor" | "patch" => Some(Ty::Int),
            _ => None,
        },
        Ty::Other("kubernetes.NamedFormat") if name == "validate" => {
            let texts = Ty::List(Box::new(Ty::String));
            (args.len() == 1).then(|| Ty::Optional(Box::new(texts)))
        }
        Ty::Other(own) if own.starts_with(AUTHORIZATION) => {
            let own = &own[AUTHORIZATION.len()..];
            let texts_of = |n: usize| args.len() == n && texts();
            let made = match (own, name) {
                ("Authorizer", "path") if texts_of(1) => "kubernetes.authorization.PathCheck",
                ("Authorizer", "group") if texts_of(1) => "kubernetes.authorization.GroupCheck",
                ("Authorizer", "serviceAccount") if texts_of(2) => {
                    "kubernetes.authorization.Authorizer"
                }
                ("GroupCheck", "resource") if texts_of(1) => {
                    "kubernetes.authorization.ResourceCheck"
                }
                (
                    "ResourceCheck",
                    "subresource" | "namespace" | "name" | "fieldSelector" | "labelSelector",
                ) if texts_of(1) => "kubernetes.authorization.ResourceCheck",
                ("PathCheck" | "ResourceCheck", "check") if texts_of(1) => {
                    "kubernetes.authorization.Decision"
                }
                _ => "",
            };
            match (own, name, made) {
                ("Decision", "errored" | "allowed", _) if args.is_empty() => Some(Ty::Bool),
                ("Decision", "error" | "reason", _) if args.is_empty() => Some(Ty::String),
                (_, _, "") => None,
                (_, _, made) => Some(Ty::Other(made)),
            }
        }
        Ty::Other("net.IP") => match name {
            "family" => Some(Ty::Int),
            name if name.starts_with("is") => Some(Ty::Bool),
            _ => None,
        },
        Ty::Other("net.CIDR") => match name {
            "containsIP" | "containsCIDR" => Some(Ty::Bool),
            "ip" => Some(Ty::Other("net.IP")),
            "masked" => Some(Ty::Other("net.CIDR")),
            "prefixLength" => Some(Ty::Int),
            _ => None,
        },
        Ty::Other("kubernetes.URL") => match name {
            "getQuery" => Some(Ty::Map(
                Box::new(Ty::String),
                Box::new(Ty::List(Box::new(Ty::String))),
            )),
            name if name.starts_with("get") => Some(Ty::String),
            _ => None,
        },
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => {
            let all: Vec<Ty<'a>> = std::iter::once(target)
                .chain(args.iter().cloned())
                .collect();
            no_overload(at, name, &all, true)
        }
    }
}
