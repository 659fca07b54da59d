//! What an observation may use beside the caches: the item, the time, a seed, live answers and the last failure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::caches::Caches;
use crate::names::Names;
use crate::resource::{Key, Resource, Target};

/// Everything `observe` may draw from.
pub struct Look<'a> {
    /// The shared caches.
    pub caches: &'a Caches,
    /// The item to look at.
    pub key: &'a Key,
    /// The moment of the decision.
    pub now: Timestamp,
    /// Name suffixes, different each time.
    pub names: Names,
    /// Answers to what the previous plan for this item asked.
    pub answers: &'a Answers,
    /// What went wrong when the previous plan for this item was carried out.
    pub failure: Option<&'a Failure>,
    /// [`crate::Plan::since`] of the previous plan for this item.
    pub since: Option<Timestamp>,
}

/// A question to the API itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Does the object exist, and what does it look like?
    Get(Target),
    /// Is there anything of this kind in the namespace?
    List {
        /// The kind.
        resource: Resource,
        /// The namespace.
        namespace: String,
    },
    /// Which version is the store of this kind at?
    Latest(Resource),
    /// All there is of this kind, in all namespaces.
    All(Resource),
    /// May this user do this? The `spec` of a SubjectAccessReview, as JSON text; the answer is the whole review.
    Access(String),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(target) => write!(f, "{target}"),
            Self::List {
                resource,
                namespace,
            } => write!(f, "all {resource} in {namespace}"),
            Self::Latest(resource) => write!(f, "version of {resource}"),
            Self::All(resource) => write!(f, "all {resource}"),
            Self::Access(spec) => write!(f, "access {spec}"),
        }
    }
}

/// What the API answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No such object, or no such kind.
    Absent,
    /// The object.
    Present(Value),
    /// The objects of a list, metadata only.
    Items(Vec<Value>),
    /// A resourceVersion.
    Version(String),
}

/// Answers, by question; one is missing when the API could not be asked.
pub type Answers = BTreeMap<Question, Answer>;

/// The kind of request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A creation.
    Create,
    /// A replacement or a patch.
    Update,
    /// A deletion.
    Delete,
    /// A read.
    Read,
}

/// The first failure of the previous plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What was tried.
    pub verb: Verb,
    /// The kind it was tried on.
    pub resource: Resource,
    /// HTTP status code, 0 when there was no answer.
    pub code: u16,
    /// The reason in the API's answer.
    pub reason: String,
    /// The message, as the API gave it.
    pub message: String,
}
