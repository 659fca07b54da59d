//! Semantic versions, as the library `kubernetes.semver` reads and compares them.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/cel/library/semverlib.go`, `github.com/blang/semver/v4`.

use std::cmp::Ordering;

/// A version; build metadata does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, patch.
    pub(super) numbers: [u64; 3],
    before: Vec<Part>,
}

/// A part of what stands before a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    let mut capital = what.to_owned();
    capital[..1].make_ascii_uppercase();
    if !is_number(text) {
        return Err(format!(
            "Invalid character(s) found in {what} number {text:?}"
        ));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!(
            "{capital} number must not contain leading zeroes {text:?}"
        ));
    }
    let range = |_| format!("strconv.ParseUint: parsing {text:?}: value out of range");
    text.parse().map_err(range)
}

fn part(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if is_number(text) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {text:?}"
            ));
        }
        let range = |_| format!("strconv.ParseUint: parsing {text:?}: value out of range");
        return text.parse().map(Part::Number).map_err(range);
    }
    match is_word(text) {
        true => Ok(Part::Text(text.to_owned())),
        false => Err(format!("Invalid character(s) found in prerelease {text:?}")),
    }
}

impl Version {
    /// Reads a version.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (major, minor) = (number(major, "major")?, number(minor, "minor")?);
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (*rest, None),
        };
        let (patch, before) = match rest.split_once('-') {
            Some((patch, before)) => (patch, Some(before)),
            None => (rest, None),
        };
        let patch = number(patch, "patch")?;
        let before: Result<Vec<Part>, String> = before
            .into_iter()
            .flat_map(|b| b.split('.'))
            .map(part)
            .collect();
        let before = before?;
        for word in build.into_iter().flat_map(|b| b.split('.')) {
            if word.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !is_word(word) {
                return Err(format!(
                    "Invalid character(s) found in build meta data {word:?}"
                ));
            }
        }
        let numbers = [major, minor, patch];
        Ok(Self { numbers, before })
    }

    /// Reads a version that may lack parts, begin with `v` or have zeros too many.
    pub(super) fn parse_lenient(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let stripped = |part: &str| {
            if part.len() <= 1 {
                return part.to_owned();
            }
            let rest = part.trim_start_matches('0');
            match rest.starts_with(|c: char| c.is_ascii_digit()) {
                true => rest.to_owned(),
                false => format!("0{rest}"),
            }
        };
        let mut parts: Vec<String> = text.splitn(3, '.').map(stripped).collect();
        if parts.len() < 3 && parts.last().is_some_and(|p| p.contains(['+', '-'])) {
            return Err("Short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
        Self::parse(&parts.join("."))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        // A release comes after all that came before it.
        let release = self.before.is_empty().cmp(&other.before.is_empty());
        numbers
            .then(release)
            .then_with(|| self.before.cmp(&other.before))
    }
}
