//! Operations before they become a document of one version or the other.

use std::collections::BTreeMap;

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

/// A parameter in a path or in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) description: String,
    pub(super) in_path: bool,
}

impl From<&Query> for Parameter {
    fn from(query: &Query) -> Self {
        Self {
            name: query.name,
            kind: query.kind,
            description: query.description.to_owned(),
            in_path: false,
        }
    }
}

/// What is sent or answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An object of this definition.
    Object(String),
    /// Plain text.
    Text,
    /// Whatever the other side says.
    Stream,
}

/// The media types that an operation speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Object,
    List,
    Text,
    /// JSON alone.
    Json,
    /// Keys of JSON Web Tokens.
    Keys,
    Any,
}

impl Media {
    pub(super) fn types(self) -> &'static [&'static str] {
        match self {
            Self::Object => &[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ],
            Self::List => &[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ],
            Self::Text => &[
                "text/plain",
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ],
            Self::Json => &["application/json"],
            Self::Keys => &["application/jwk-set+json"],
            Self::Any => &["*/*"],
        }
    }
}

/// What a kind takes whose lists have no merge keys.
pub(super) const CUSTOM_PATCH_TYPES: [&str; 3] = [PATCH_TYPES[0], PATCH_TYPES[1], PATCH_TYPES[3]];

pub(super) const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// One method on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    /// `x-kubernetes-action`; empty for discovery.
    pub(super) action: &'static str,
    /// Group, version and kind; empty for discovery.
    pub(super) gvk: Option<[String; 3]>,
    pub(super) parameters: Vec<Parameter>,
    /// The definition of the body, and whether there must be one.
    pub(super) body: Option<(String, bool)>,
    /// The types of patches that it takes; none if it is no patch.
    pub(super) patch: &'static [&'static str],
    pub(super) answers: Vec<(u16, Content)>,
    pub(super) media: Media,
}

/// All operations by path.
pub(super) type Operations = BTreeMap<String, Vec<Operation>>;

/// The parameters that all operations of a path have, and what is left to each; both sorted by name.
pub(super) fn split_parameters(
    operations: &[Operation],
) -> (Vec<&Parameter>, Vec<Vec<&Parameter>>) {
    let sorted = |mut list: Vec<_>| {
        list.sort_by_key(|p: &&Parameter| (p.name, !p.in_path));
        list
    };
    let everywhere = |p: &Parameter| operations.iter().all(|o| o.parameters.contains(p));
    let first = operations.first().map(|o| o.parameters.as_slice());
    let common = first.unwrap_or_default().iter().filter(|p| everywhere(p));
    let rest = operations.iter().map(|o| {
        let own = o.parameters.iter().filter(|p| !everywhere(p));
        sorted(own.collect())
    });
    (sorted(common.collect()), rest.collect())
}
