//! What a request wants, as authorization sees it.

use std::sync::Arc;

use machinery::ApiError;
use machinery::labels::Selector;

use crate::User;
use crate::quote::quote;

/// One requirement of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, for example `spec.nodeName`.
    pub field: String,
    /// `=` (true) or `!=`.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// What a request wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks; shared by all that is asked about one request.
    pub user: Arc<User>,
    /// API verb (`get`, `list`, `deletecollection`...) or the lower-cased HTTP method.
    pub verb: String,
    /// API group, empty for core.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Plural resource name.
    pub resource: String,
    /// Sub-resource, or empty.
    pub subresource: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name as it stands in the path; a list or watch selecting `metadata.name=x` has the name `x`.
    pub name: String,
    /// For an API resource (true) or a path such as `/healthz`.
    pub is_resource_request: bool,
    /// The path.
    pub path: String,
    /// The field selector of a list, watch or deletecollection; empty when there is none or it does not parse.
    pub field_selector: Vec<FieldRequirement>,
    /// The label selector of a list, watch or deletecollection; `None` when there is none or it does not parse.
    pub label_selector: Option<Selector>,
}

impl Attributes {
    /// A request for a resource.
    pub fn resource(user: &User, verb: &str, group: &str, resource: &str) -> Self {
        Self {
            user: Arc::new(user.clone()),
            verb: verb.to_owned(),
            api_group: group.to_owned(),
            resource: resource.to_owned(),
            is_resource_request: true,
            ..Self::default()
        }
    }

    /// A request for a path that is no resource.
    pub fn path(user: &User, verb: &str, path: &str) -> Self {
        let (user, verb, path) = (Arc::new(user.clone()), verb.to_owned(), path.to_owned());
        Self {
            user,
            verb,
            path,
            ..Self::default()
        }
    }

    /// Has no side effects.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// `resource/subresource`, or the resource alone.
    pub fn combined_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            sub => format!("{}/{sub}", self.resource),
        }
    }

    /// The answer to a request that nobody allowed.
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let message = self.forbidden_message();
        let message = message
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let why = if reason.is_empty() {
            message
        } else {
            format!("{message}: {reason}")
        };
        ApiError::forbidden(&self.api_group, &self.resource, &self.name, why)
    }

    fn forbidden_message(&self) -> String {
        let (user, verb) = (quote(&self.user.name), &self.verb);
        if !self.is_resource_request {
            return format!("User {user} cannot {verb} path {}", quote(&self.path));
        }
        let (resource, group) = (quote(&self.combined_resource()), quote(&self.api_group));
        let scope = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {}", quote(namespace)),
        };
        format!("User {user} cannot {verb} resource {resource} in API group {group} {scope}")
    }
}
