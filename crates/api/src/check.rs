//! Checks that many kinds share: labels, selectors, numbers, quantities, addresses.
//!
//! Behaviour and wording: `k8s.io/apimachinery/pkg/apis/meta/v1/validation`, `pkg/api/validation` and the common parts of
//! `k8s.io/kubernetes/pkg/apis/core/validation`.

pub mod webhook;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::{ErrorList, Path, names};
use serde::Serialize;
use serde_json::Value;

use crate::view::Items;

/// The detail of an error about a changed field that never may.
pub const IMMUTABLE: &str = "field is immutable";
/// The detail of an error about a negative number.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// More ways to add to an [`ErrorList`].
pub trait ErrorListExt {
    /// One `Invalid` per message.
    fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>);
    /// The field must not be empty.
    fn required_text(&mut self, path: &Path, text: &str, detail: &str) -> bool;
    /// The value must be one of `supported`.
    fn one_of(&mut self, path: &Path, value: &str, supported: &[&str]);
    /// A number below zero.
    fn not_negative(&mut self, path: &Path, value: i64);
    /// A field that may not change has changed.
    fn immutable<T: PartialEq + Serialize>(&mut self, path: &Path, new: &T, old: &T);
    /// The same; the message shows no value, as those of upstream's declarative rules.
    fn fixed<T: PartialEq>(&mut self, path: &Path, new: &T, old: &T);
}

impl ErrorListExt for ErrorList {
    fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    fn required_text(&mut self, path: &Path, text: &str, detail: &str) -> bool {
        if text.is_empty() {
            self.required(path, detail);
        }
        !text.is_empty()
    }

    fn one_of(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    fn not_negative(&mut self, path: &Path, value: i64) {
        if value < 0 {
            self.invalid(path, value, NOT_NEGATIVE);
        }
    }

    fn immutable<T: PartialEq + Serialize>(&mut self, path: &Path, new: &T, old: &T) {
        if new != old && !same(new, old) {
            let shown = match json(new) {
                Value::Array(items) if items.is_empty() => Value::Null,
                shown => shown,
            };
            self.invalid(path, shown, IMMUTABLE);
        }
    }

    fn fixed<T: PartialEq>(&mut self, path: &Path, new: &T, old: &T) {
        if new != old {
            self.invalid(path, Value::Null, IMMUTABLE);
        }
    }
}

/// The path of the object as a whole, as messages spell it.
pub fn whole() -> Path {
    Path::default().key("")
}

/// A typed value as a tree, for messages.
pub fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// A value such as `acme.io/foo`: a domain and a path below it.
pub fn domain_prefixed_path(errors: &mut ErrorList, path: &Path, value: &str) {
    if !errors.required_text(path, value, "") {
        return;
    }
    let parts = value.split_once('/');
    let Some((host, rest)) = parts.filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return errors.invalid(path, value, detail);
    };
    errors.invalid_each(path, host, names::dns1123_subdomain(host));
    errors.invalid_each(path, rest, names::http_path(rest));
}

/// A label key.
pub fn label_name(errors: &mut ErrorList, path: &Path, key: &str) {
    errors.invalid_each(path, key, names::qualified_name(key));
}

/// Label keys and values.
pub fn labels(errors: &mut ErrorList, path: &Path, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        label_name(errors, path, key);
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// A label selector, when there is one.
pub fn label_selector(errors: &mut ErrorList, path: &Path, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    labels(
        errors,
        &path.child("matchLabels"),
        selector.match_labels.as_ref(),
    );
    for (i, requirement) in selector.match_expressions.items().iter().enumerate() {
        label_requirement(
            errors,
            &path.child("matchExpressions").index(i),
            requirement,
        );
    }
}

fn label_requirement(errors: &mut ErrorList, path: &Path, requirement: &LabelSelectorRequirement) {
    let values = requirement.values.items();
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), detail);
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
        }
        other => errors.invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    label_name(errors, &path.child("key"), &requirement.key);
    for (i, value) in values.iter().enumerate() {
        errors.invalid_each(
            &path.child("values").index(i),
            value,
            names::label_value(value),
        );
    }
}

/// A selector without any requirement.
pub fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.items().is_empty()
}

/// A port by number (1-65535) or by name.
pub fn port_number_or_name(errors: &mut ErrorList, path: &Path, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => {
            for message in names::port_number(i64::from(*number)) {
                errors.invalid(path, *number, message);
            }
        }
        IntOrString::String(name) => errors.invalid_each(path, name, names::port_name(name)),
    }
}

/// A port number.
pub fn port(errors: &mut ErrorList, path: &Path, number: i32) {
    for message in names::port_number(i64::from(number)) {
        errors.invalid(path, number, message);
    }
}

/// A number that is not negative, or a percentage.
pub fn positive_int_or_percent(errors: &mut ErrorList, path: &Path, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => errors.not_negative(path, i64::from(*number)),
        IntOrString::String(text) => errors.invalid_each(path, text, names::percent(text)),
    }
}

/// The number in `42%`.
pub fn percent(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) if names::percent(text).is_empty() => {
            text.strip_suffix('%').and_then(|n| n.parse().ok())
        }
        _ => None,
    }
}

/// The number, or the number before the percent sign.
pub fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        percentage => percent(percentage).unwrap_or(0),
    }
}

/// A percentage above 100.
pub fn at_most_100_percent(errors: &mut ErrorList, path: &Path, value: &IntOrString) {
    if percent(value).is_some_and(|n| n > 100) {
        errors.invalid(path, json(value), "must not be greater than 100%");
    }
}

/// An address that endpoints may not have: unspecified, loopback, link-local (CVE-2021-25737).
pub fn non_special_ip(errors: &mut ErrorList, path: &Path, address: &str) {
    let Some(ip) = names::parse_ip_sloppy(address) else {
        errors.invalid(path, address, "must be a valid IP address");
        return;
    };
    let ip = match ip {
        std::net::IpAddr::V6(v6) => v6.to_canonical(),
        v4 => v4,
    };
    if ip.is_unspecified() {
        errors.invalid(path, address, format!("may not be unspecified ({address})"));
    }
    if ip.is_loopback() {
        errors.invalid(
            path,
            address,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    let (link_unicast, link_multicast) = match ip {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => {
            let segments = v6.segments();
            (
                segments[0] & 0xffc0 == 0xfe80,
                segments[0] & 0xff0f == 0xff02,
            )
        }
    };
    if link_unicast {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid(path, address, detail);
    }
    if link_multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid(path, address, detail);
    }
}

/// Conditions of the shared form: each type once, each one whole.
pub fn conditions(errors: &mut ErrorList, path: &Path, conditions: &[Condition]) {
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        if conditions[..i].iter().any(|c| c.type_ == condition.type_) {
            errors.duplicate(&at, condition.type_.as_str());
        }
        one_condition(errors, &at, condition);
    }
}

fn one_condition(errors: &mut ErrorList, path: &Path, condition: &Condition) {
    const WHAT: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
        alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    const EXAMPLES: &[&str] = &[
        "my_name",
        "MY_NAME",
        "MyName",
        "ReasonA,ReasonB",
        "ReasonA:ReasonB",
    ];
    const REGEX: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
    if errors.required_text(&path.child("type"), &condition.type_, "is required") {
        label_name(errors, &path.child("type"), &condition.type_);
    }
    let at = path.child("status");
    if errors.required_text(&at, &condition.status, "") {
        errors.one_of(&at, &condition.status, &["False", "True", "Unknown"]);
    }
    if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    if condition.last_transition_time.0.to_string() == crate::nulls::NO_TIME {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    let (at, reason) = (path.child("reason"), condition.reason.as_str());
    if errors.required_text(&at, reason, "") {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = reason.as_bytes();
        let fits = bytes[0].is_ascii_alphabetic()
            && bytes.iter().all(|b| inner(*b) || b",:".contains(b))
            && bytes.last().is_some_and(|b| inner(*b));
        if !fits {
            errors.invalid(&at, reason, names::regex_message(WHAT, REGEX, EXAMPLES));
        }
        if reason.len() > 1024 {
            errors.too_long(&at, 1024);
        }
    }
    if condition.message.len() > 32 * 1024 {
        errors.too_long(&path.child("message"), 32 * 1024);
    }
}

/// A name that must be there and fit into a path, as references to objects of any kind have.
pub fn required_path_segment(errors: &mut ErrorList, path: &Path, value: &str) {
    if errors.required_text(path, value, "") {
        errors.invalid_each(path, value, names::path_segment_name(value));
    }
}

/// Equal but for what is absent in one and empty in the other, as the API compares objects.
pub fn same<T: Serialize>(a: &T, b: &T) -> bool {
    prune(json(a)) == prune(json(b))
}

/// Without nulls, empty lists and empty maps.
pub fn prune(value: Value) -> Value {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            let pruned = map.into_iter().map(|(k, v)| (k, prune(v)));
            Value::Object(pruned.filter(|(_, v)| !empty(v)).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(prune).collect()),
        other => other,
    }
}
