//! OpenAPI documents, made from the schemas and a list of what is served.
//!
//! [`v3`] gives one document a group version (`kubectl explain`, field validation of clients), [`v2`] the one document
//! of everything, as JSON and in the protobuf form that older `kubectl` insists on. Documents are built when somebody asks and
//! hold nothing afterwards; the server keeps their bytes or their hash as it likes.
//! Behaviour and wording: `k8s.io/apiserver/pkg/endpoints/installer.go` and `k8s.io/kube-openapi`.

mod answers;
mod model;
mod operations;
mod own;
mod params;
mod proto;
mod schemas;
mod translate;
pub mod v2;
pub mod v3;

pub use own::PATHS as OWN_PATHS;
pub use schemas::Definitions;
pub use translate::translate;

/// The version that documents say they are of: without what is fixed from one release to the next.
const VERSION: &str = "1.37";

/// Gives the JSON schemas of a definition and of all that it refers to, by name; none if the name is unknown.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<Definitions>;

/// A kind that is served, and what can be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedResource {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind in CamelCase.
    pub kind: String,
    /// Plural resource name.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The verbs of discovery: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: Vec<String>,
    /// The name of the definition, for example `io.k8s.api.apps.v1.Deployment`.
    pub definition: String,
    /// Whether patches cannot be strategic merges: a custom kind.
    pub merges_plainly: bool,
    /// Sub-resources.
    pub subresources: Vec<ServedSubresource>,
}

/// A sub-resource of a served kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedSubresource {
    /// The path segment: `status`, `scale`, `exec` ...
    pub name: String,
    /// The group of the kind that is sent and answered; the resource's own for `status`.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its kind, for example `Scale`; the resource's own for `status`.
    pub kind: String,
    /// Its definition; unused for `exec`, `attach`, `portforward`, `proxy` and `log`.
    pub definition: String,
    /// The verbs: `get`, `patch`, `update`, `create`; unused for those that connect.
    pub verbs: Vec<String>,
}
