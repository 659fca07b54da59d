//! The formats of strings.
//!
//! Behaviour: `k8s.io/kube-openapi/pkg/validation/strfmt`, `.../apiserver/validation/formats.go`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

/// The formats that are checked, without dashes.
const KNOWN: [&str; 27] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "url",
];

/// Whether a format means something for values of this type (empty: not said).
pub fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => format != "url" && KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

static HOSTNAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^([a-zA-Z0-9_]{1}[a-zA-Z0-9_-]{0,62}){1}(\.[a-zA-Z0-9_]{1}[a-zA-Z0-9_-]{0,62})*[._]?$",
    )
    .ok()
});
static CREDIT_CARD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
    )
    .ok()
});
static SSN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$").ok());
static RGB: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*";
    Regex::new(&format!(r"^rgb\({PART},{PART},{PART}\)$")).ok()
});
static EMAIL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"^(?:[^<>@]*<)?(?:"[^"]+"|[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x{80}-\x{10ffff}-]+)@[^\s<>@,]+>?$"#).ok()
});
static GO_DURATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$").ok()
});
static SCALA_DURATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^\s*(?:\d+\s*(?:ns|nano|nanos|nanosecond|nanoseconds|µs|us|micro|micros|microsecond|microseconds|ms|milli|millis|millisecond|milliseconds|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hour|hours|d|day|days|w|wk|week|weeks)\s*)+$",
    )
    .ok()
});

fn is(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Whether a text has a format; it has every format that means nothing.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    if format.is_empty() || !is_known("string", format) {
        return true;
    }
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "byte" => is_base64(text),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "creditcard" => is_credit_card(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => is_date_time(text),
        "duration" => is(&GO_DURATION, text) || is(&SCALA_DURATION, text),
        "email" => is(&EMAIL, text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "hostname" => {
            is(&HOSTNAME, text) && text.len() <= 255 && text.split('.').all(|p| p.len() <= 63)
        }
        "ipv4" => text.contains('.') && text.parse::<IpAddr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8slongname" => crate::names::dns1123_subdomain(text).is_empty(),
        "k8sshortname" => crate::names::dns1123_label(text).is_empty(),
        "mac" => is_mac(text),
        "rgbcolor" => is(&RGB, text),
        "ssn" => is(&SSN, text),
        "uri" => is_request_uri(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        _ => true,
    }
}

fn is_base64(text: &str) -> bool {
    !text.is_empty()
        && base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok()
}

/// `2014-12-15T19:30:20.000Z`; the zone may be left out or written without a colon.
fn is_date_time(text: &str) -> bool {
    let with_t = text
        .as_bytes()
        .get(10)
        .is_some_and(|b| matches!(b, b'T' | b't'));
    with_t
        && (text.parse::<jiff::Timestamp>().is_ok()
            || text.parse::<jiff::civil::DateTime>().is_ok() && !text.contains('['))
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !is(&CREDIT_CARD, &digits) {
        return false;
    }
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(i, digit)| match i % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn isbn_digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let values = digits.chars().enumerate().map(|(i, c)| match (i, c) {
        (9, 'X' | 'x') => Some(10),
        (_, c) => c.to_digit(10),
    });
    let values: Option<Vec<u32>> = values.collect();
    values.is_some_and(|v| {
        v.len() == 10
            && v.iter()
                .zip((1..=10).rev())
                .map(|(v, w)| v * w)
                .sum::<u32>()
                % 11
                == 0
    })
}

fn is_isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    let values: Option<Vec<u32>> = digits.chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|v| {
        let weighted = v.iter().zip([1, 3].into_iter().cycle()).map(|(v, w)| v * w);
        v.len() == 13 && weighted.sum::<u32>() % 10 == 0
    })
}

fn is_mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let pairs = |separator: char| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| hex(p, 2))
    };
    let quads: Vec<&str> = text.split('.').collect();
    pairs(':')
        || pairs('-')
        || (matches!(quads.len(), 3 | 4 | 10) && quads.iter().all(|q| hex(q, 4)))
}

/// What stands in the first line of a request: an absolute path or a URI with a scheme.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && !rest.is_empty()
}

/// 32 hexadecimal digits, the dashes optional; `version` is the digit that tells the kind.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    let mut groups = Vec::with_capacity(5);
    for length in [8, 4, 4, 4, 12] {
        let Some(group) = rest.get(..length) else {
            return false;
        };
        if !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        groups.push(group);
        rest = &rest[length..];
        rest = match groups.len() {
            5 => rest,
            _ => rest.strip_prefix('-').unwrap_or(rest),
        };
    }
    let variant = groups[3].starts_with(['8', '9', 'a', 'b', 'A', 'B']);
    rest.is_empty() && version.is_none_or(|v| groups[2].starts_with(v) && (v == '3' || variant))
}
