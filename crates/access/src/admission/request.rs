//! What admission knows about a request.

use std::collections::BTreeSet;

use machinery::{ApiError, Object};

use crate::{Authorizer, User};

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes an object (or posts to a sub-resource such as `binding`, `eviction` or `token`).
    Create,
    /// Changes one.
    Update,
    /// Deletes one.
    Delete,
    /// Opens a connection to one.
    Connect,
}

impl Operation {
    /// The name on the wire of admission reviews.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write on its way to the store.
pub struct Request<'a> {
    /// Who writes.
    pub user: &'a User,
    /// What the write does.
    pub operation: Operation,
    /// API group of the resource.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Sub-resource, or empty.
    pub subresource: &'a str,
    /// Kind of the object in the request: with a sub-resource it may be another than the resource's.
    pub kind: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Name in the path; for a create the name in the object, empty when it is to be generated.
    pub name: &'a str,
    /// The object as stored, for updates and deletes.
    pub old: Option<&'a Object>,
    /// Five random characters, as in generated names.
    pub name_suffix: &'a str,
    /// Plug-ins that are left out.
    pub without: &'a BTreeSet<String>,
    /// For plug-ins that ask what else the user may do.
    pub authorizer: &'a dyn Authorizer,
}

impl Request<'_> {
    /// The request is for this resource itself, in the given group.
    pub(super) fn is_for(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    /// A refusal, in upstream's words.
    pub(super) fn forbidden(&self, object: &Object, why: impl std::fmt::Display) -> ApiError {
        let names = [
            self.name,
            object.name(),
            object.meta_str("generateName"),
            "Unknown",
        ];
        let name = names
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        ApiError::forbidden(self.group, self.resource, name, why)
    }
}
