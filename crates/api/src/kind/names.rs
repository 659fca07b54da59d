//! What a kind is called, and which of its versions comes first.

use serde::Serialize;

/// A list of words that is either written in the program or owned by a custom kind.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// Written in the program.
    Fixed(&'a [&'a str]),
    /// Owned by a custom kind.
    Owned(&'a [Box<str>]),
}

impl<'a> Words<'a> {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (fixed, owned): (&'a [&'a str], &'a [Box<str>]) = match self {
            Self::Fixed(words) => (words, &[]),
            Self::Owned(words) => (&[], words),
        };
        fixed
            .iter()
            .copied()
            .chain(owned.iter().map(|word| &**word))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether this word is among them.
    pub fn contains(self, word: &str) -> bool {
        self.iter().any(|own| own == word)
    }
}

impl PartialEq for Words<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Words<'_> {}

impl Serialize for Words<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The names of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Served version.
    pub version: &'a str,
    /// Kind in CamelCase.
    pub kind: &'a str,
    /// The kind of lists; empty: the kind's name and `List`.
    pub list_kind: &'a str,
    /// Plural resource name.
    pub plural: &'a str,
    /// Singular resource name.
    pub singular: &'a str,
    /// Short names for `kubectl`.
    pub short: Words<'a>,
    /// Categories, for example `all`.
    pub categories: Words<'a>,
    /// Group and resource under which objects are stored, when another kind is the same thing
    /// (`events.k8s.io` Events are stored as core Events, every version of a custom kind as its storage version); `None`
    /// is its own.
    pub stored_as: Option<(&'a str, &'a str)>,
}

/// The names of a kind that is written in the program.
pub type Names = Named<'static>;

impl<'a> Named<'a> {
    /// A kind without short names and categories.
    pub const fn new(
        group: &'a str,
        version: &'a str,
        kind: &'a str,
        plural: &'a str,
        singular: &'a str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            list_kind: "",
            plural,
            singular,
            short: Words::Fixed(&[]),
            categories: Words::Fixed(&[]),
            stored_as: None,
        }
    }

    /// With these short names.
    #[must_use]
    pub const fn short(self, short: &'a [&'a str]) -> Self {
        Self {
            short: Words::Fixed(short),
            ..self
        }
    }

    /// In the category `all`.
    #[must_use]
    pub const fn in_all(self) -> Self {
        Self {
            categories: Words::Fixed(&["all"]),
            ..self
        }
    }

    /// In the category `api-extensions`.
    #[must_use]
    pub const fn in_api_extensions(self) -> Self {
        Self {
            categories: Words::Fixed(&["api-extensions"]),
            ..self
        }
    }

    /// The kind of lists.
    pub fn list_kind(&self) -> std::borrow::Cow<'a, str> {
        match self.list_kind {
            "" => format!("{}List", self.kind).into(),
            own => own.into(),
        }
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The order of versions: the stable ones first, the newest of them first (`v2`, `v1`, `v1beta2`, `v1alpha1`), then
/// whatever else there is by name.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    /// Stability, major and minor number.
    fn parse(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let (stability, minor) = match &rest[end..] {
            "" => return Some((2, major, 0)),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor),
                (None, Some(minor)) => (0, minor),
                (None, None) => return None,
            },
        };
        let minor = if minor.is_empty() { "0" } else { minor };
        Some((stability, major, minor.parse().ok()?))
    }
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}
