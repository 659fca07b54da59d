//! What may be asked of a kind, and of which part of its objects.

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One per cluster and name.
    Cluster,
    /// One per namespace and name.
    Namespaced,
}

/// The verbs of discovery and authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `create`
    Create,
    /// `delete`
    Delete,
    /// `deletecollection`
    DeleteCollection,
    /// `get`
    Get,
    /// `list`
    List,
    /// `patch`
    Patch,
    /// `update`
    Update,
    /// `watch`
    Watch,
}

impl Verb {
    /// The verbs of an ordinary persisted kind, in discovery order.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];
    /// The verbs of a review: asked by `create`, never kept.
    pub const CREATE_ONLY: &'static [Self] = &[Self::Create];
    /// The verbs of what is found out when somebody asks, and never kept.
    pub const READ_ONLY: &'static [Self] = &[Self::Get, Self::List];

    /// The verb's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A sub-resource of a kind, as discovery lists it and as the road serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// Part of the object with an update rule of its own: `status`, `ephemeralcontainers`, `resize`, `finalize`.
    Part(Part),
    /// `scale`, mapped on these fields of the object; those of a custom kind stand in [`AnyKind::scale`].
    Scale {
        /// Path of the wanted replicas.
        spec_replicas: &'static [&'static str],
        /// Path of the observed replicas.
        status_replicas: &'static [&'static str],
        /// Path of the selector: a `LabelSelector` or a plain map.
        selector: &'static [&'static str],
    },
    /// `binding`: assigns a pod to a node.
    Binding,
    /// `eviction`: deletes a pod if disruption budgets allow.
    Eviction,
    /// `token`: issues a service-account token.
    Token,
    /// `log`
    Log,
    /// `exec`
    Exec,
    /// `attach`
    Attach,
    /// `portforward`
    PortForward,
    /// `proxy`: HTTP to the object itself.
    Proxy,
}

impl Subresource {
    /// The path segment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Part(part) => part.name(),
            Self::Scale { .. } => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Token => "token",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
        }
    }
}

/// Which part of an object a write may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The main resource: everything but what has a part of its own.
    Main,
    /// `status`
    Status,
    /// `ephemeralcontainers` of a pod
    EphemeralContainers,
    /// `resize` of a pod
    Resize,
    /// `finalize` of a namespace
    Finalize,
    /// `approval` of a certificate signing request
    Approval,
}

impl Part {
    /// The path segment; empty for the main resource.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }
}

/// What becomes of the dependents of a deleted object when nobody says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// They go too.
    Deleted,
    /// They stay, and who did not ask for it is told so in these words, if there are any.
    Orphaned(&'static str),
    /// There are none, whatever is asked.
    None,
}
