//! What names, label keys, ports and addresses must look like, in the API's own words.
//!
//! Every check returns the messages of what is wrong, none when the value is fine.
//! Behaviour and wording: `k8s.io/apimachinery/pkg/util/validation` and `pkg/api/validate/content`.

mod address;

pub use address::{
    cidr, cidr_warnings, interface_address, ip, ip_warning, legacy_cidr, legacy_ip,
    parse_cidr_sloppy, parse_ip_sloppy,
};

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest name that [`generate_name`] makes.
const GENERATED_MAX: usize = 63;

const LABEL_RE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_RE: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_RE: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Joins a base name and a random suffix so that the whole fits a DNS label.
pub fn generate_name(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(GENERATED_MAX.saturating_sub(suffix.len()));
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

fn max_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The message for a value outside `low..=high`.
pub fn range_message(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The message for a value that must not be empty.
pub const EMPTY: &str = "must be non-empty";

/// A message with its examples and its regular expression.
pub fn regex_message(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    let examples = examples.join(" or ");
    format!("{message} (e.g. {examples}regex used for validation is '{regex}')")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// First and last byte pass `edge`, all pass `inner`; not empty.
fn framed(value: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => edge(first) && edge(last) && bytes.iter().all(|&b| inner(b)),
        _ => false,
    }
}

fn label_shape(value: &str) -> bool {
    framed(value, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn subdomain_shape(value: &str) -> bool {
    value.split('.').all(label_shape)
}

fn key_shape(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    framed(value, |b| b.is_ascii_alphanumeric(), inner)
}

fn collect<const N: usize>(messages: [Option<String>; N]) -> Vec<String> {
    messages.into_iter().flatten().collect()
}

/// A DNS label (RFC 1123): up to 63 of `a-z0-9-`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    const WHAT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
        and must start and end with an alphanumeric character";
    let shape = match (label_shape(value), subdomain_shape(value)) {
        (true, _) => None,
        (_, true) => Some("must not contain dots".to_owned()),
        _ => Some(regex_message(WHAT, LABEL_RE, &["my-name", "123-abc"])),
    };
    collect([
        (value.len() > LABEL_MAX).then(|| max_characters(LABEL_MAX)),
        shape,
    ])
}

fn subdomain_with(value: &str, too_long: fn(usize) -> String) -> Vec<String> {
    const WHAT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
        '-' or '.', and must start and end with an alphanumeric character";
    collect([
        (value.len() > SUBDOMAIN_MAX).then(|| too_long(SUBDOMAIN_MAX)),
        (!subdomain_shape(value)).then(|| regex_message(WHAT, SUBDOMAIN_RE, &["example.com"])),
    ])
}

/// A DNS subdomain (RFC 1123): up to 253 characters, labels joined by dots.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    subdomain_with(value, max_characters)
}

/// The same for names that are compared without regard to case.
pub fn dns1123_subdomain_caseless(value: &str) -> Vec<String> {
    const WHAT: &str = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', \
        and must start and end with an alphanumeric character";
    collect([
        (value.len() > SUBDOMAIN_MAX).then(|| max_characters(SUBDOMAIN_MAX)),
        (!subdomain_shape(&value.to_lowercase()))
            .then(|| regex_message(WHAT, SUBDOMAIN_RE, &["Example.com"])),
    ])
}

/// A DNS subdomain whose labels may hold `_` and begin with one.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    const WHAT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
        '_', '-' or '.', and must start and end with an alphanumeric character";
    const RE: &str = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let fits = value.split('.').all(|label| {
        let label = label.strip_prefix('_').unwrap_or(label);
        framed(label, lower_alnum, |b| {
            lower_alnum(b) || matches!(b, b'-' | b'_')
        })
    });
    collect([
        (value.len() > SUBDOMAIN_MAX).then(|| max_characters(SUBDOMAIN_MAX)),
        (!fits).then(|| regex_message(WHAT, RE, &["example.com"])),
    ])
}

/// A DNS label that starts with a letter (RFC 1035), as service names do.
pub fn dns1035_label(value: &str) -> Vec<String> {
    const WHAT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
        start with an alphabetic character, and end with an alphanumeric character";
    const RE: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
    let fits = label_shape(value) && value.as_bytes()[0].is_ascii_lowercase();
    collect([
        (value.len() > LABEL_MAX).then(|| max_characters(LABEL_MAX)),
        (!fits).then(|| regex_message(WHAT, RE, &["my-name", "abc-123"])),
    ])
}

/// `*.` and a DNS subdomain.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    const WHAT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
        which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let fits = value.strip_prefix("*.").is_some_and(subdomain_shape);
    let regex = format!(r"\*\.{SUBDOMAIN_RE}");
    collect([
        (value.len() > SUBDOMAIN_MAX).then(|| max_characters(SUBDOMAIN_MAX)),
        (!fits).then(|| regex_message(WHAT, &regex, &["*.example.com"])),
    ])
}

const KEY_WHAT: &str = "must consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character";
const KEY_EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];

/// A label key: a name of up to 63 characters, optionally behind a DNS subdomain and `/`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let what = regex_message(KEY_WHAT, KEY_RE, &KEY_EXAMPLES);
    let parts: Vec<&str> = value.split('/').collect();
    let (mut messages, name) = match parts.as_slice() {
        [name] => (Vec::new(), *name),
        ["", name] => (vec![format!("prefix part {EMPTY}")], *name),
        [prefix, name] => {
            let messages = subdomain_with(prefix, max_bytes);
            let messages = messages.into_iter().map(|m| format!("prefix part {m}"));
            (messages.collect(), *name)
        }
        _ => {
            return vec![format!(
                "a valid label key {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push(format!("name part {EMPTY}"));
    } else if name.len() > LABEL_MAX {
        messages.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !key_shape(name) {
        messages.push(format!("name part {what}"));
    }
    messages
}

/// The key of a label; the same as [`qualified_name`].
pub fn label_key(value: &str) -> Vec<String> {
    qualified_name(value)
}

/// The value of a label: empty, or up to 63 characters framed by alphanumerics.
pub fn label_value(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
        '-', '_' or '.', and must start and end with an alphanumeric character";
    const RE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
    let fits = value.is_empty() || key_shape(value);
    collect([
        (value.len() > LABEL_MAX).then(|| max_bytes(LABEL_MAX)),
        (!fits).then(|| regex_message(WHAT, RE, &["MyValue", "my_value", "12345"])),
    ])
}

fn directory_like(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable under the strict rules (keys of `envFrom`).
pub fn env_var_name(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid environment variable name must consist of alphabetic characters, digits, \
        '_', '-', or '.', and must not start with a digit";
    const RE: &str = "[-._a-zA-Z][-._a-zA-Z0-9]*";
    let fits = config_key_shape(value) && !value.as_bytes()[0].is_ascii_digit();
    let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
    collect([
        (!fits).then(|| regex_message(WHAT, RE, &examples)),
        directory_like(value),
    ])
}

/// The name of an environment variable of a container: printable ASCII without `=`.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    let fits = value.bytes().all(printable);
    collect([
        value
            .is_empty()
            .then(|| format!("environment variable name {EMPTY}")),
        (!fits).then(|| WHAT.to_owned()),
    ])
}

fn config_key_shape(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    framed(value, inner, inner)
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    const WHAT: &str =
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let examples = ["key.name", "KEY_NAME", "key-name"];
    collect([
        (value.len() > SUBDOMAIN_MAX).then(|| max_characters(SUBDOMAIN_MAX)),
        (!config_key_shape(value)).then(|| regex_message(WHAT, "[-._a-zA-Z0-9]+", &examples)),
        directory_like(value),
    ])
}

/// The number of a port.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

/// A number in `low..=high`.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    collect([(!(low..=high).contains(&value)).then(|| range_message(low, high))])
}

/// A user or group id.
pub fn user_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

/// The name of a container port (`IANA_SVC_NAME`).
pub fn port_name(value: &str) -> Vec<String> {
    let charset = !value.is_empty() && value.bytes().all(|b| lower_alnum(b) || b == b'-');
    let letter = value.bytes().any(|b| b.is_ascii_lowercase());
    let edge = value.starts_with('-') || value.ends_with('-');
    let say = |bad: bool, text: &str| bad.then(|| text.to_owned());
    collect([
        (value.len() > 15).then(|| max_characters(15)),
        say(
            !charset,
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        say(!letter, "must contain at least one letter (a-z)"),
        say(value.contains("--"), "must not contain consecutive hyphens"),
        say(edge, "must not begin or end with a hyphen"),
    ])
}

/// `93%`.
pub fn percent(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    let digits = value.strip_suffix('%').unwrap_or("");
    let fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    collect([(!fits).then(|| regex_message(WHAT, "[0-9]+%", &["1%", "93%"]))])
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let fits = framed(value, inner, inner);
    collect([(!fits).then(|| regex_message(WHAT, "[-A-Za-z0-9]+", &["X-Header-Name"]))])
}

/// The characters of an HTTP path, as domain-prefixed paths check them.
pub fn http_path(value: &str) -> Vec<String> {
    const RE: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    let fits = framed(value, inner, inner);
    collect([(!fits).then(|| regex_message("Invalid path", RE, &[]))])
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Vec<String> {
    const WHAT: &str = "a valid C identifier must start with alphabetic character or '_', \
        followed by a string of alphanumeric characters or '_'";
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = framed(value, inner, inner) && !value.as_bytes()[0].is_ascii_digit();
    let examples = ["my_name", "MY_NAME", "MyName"];
    collect([(!fits).then(|| regex_message(WHAT, "[A-Za-z_][A-Za-z0-9_]*", &examples))])
}

/// A name that can stand in a URL path, as most cluster-internal names must.
pub fn path_segment_name(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// The beginning of a name that can stand in a URL path.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    let bad = ['/', '%'].into_iter().filter(|c| value.contains(*c));
    bad.map(|c| format!("may not contain '{c}'")).collect()
}

#[cfg(test)]
mod tests;
