//! What admission knows about a request.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use machinery::{ApiError, Object};

use super::{
    OFF_BY_DEFAULT, event_rate_limit, image_policy, limited_resources, manifests,
    pod_node_selector, pod_security, pod_toleration_restriction,
};
use crate::{Authorizer, User};

/// What plug-ins have to say beside yes and no.
#[derive(Debug, Default)]
pub struct Notes {
    /// For the client.
    pub warnings: RefCell<Vec<String>>,
    /// For the audit log.
    pub annotations: RefCell<BTreeMap<String, String>>,
    /// For who counts: what `PodSecurity` has looked at.
    pub pod_security: RefCell<Vec<pod_security::Seen>>,
}

impl Notes {
    /// Tells the client something.
    pub(super) fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
    }

    /// Notes something in the audit log.
    pub(super) fn annotate(&self, key: &str, value: impl Into<String>) {
        let mut all = self.annotations.borrow_mut();
        all.insert(key.to_owned(), value.into());
    }
}

/// The operator's settings; by default those of a cluster that one command makes, whose kubelets are held to their nodes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Plug-ins that are left out.
    pub without: BTreeSet<String>,
    /// What the plug-in `PodSecurity` asks where labels say nothing, and of whom not.
    pub pod_security: pod_security::Configuration,
    /// How long pods stay on a node that is not ready, and on one that is not reachable: seconds.
    pub toleration_seconds: TolerationSeconds,
    /// Where policies and webhooks stand in files.
    pub manifests: BTreeMap<manifests::Source, PathBuf>,
    /// Kubeconfigs that say who the server is for which webhook: of the plug-ins that ask webhooks.
    pub webhook_users: BTreeMap<manifests::Source, PathBuf>,
    /// Of the plug-in `ResourceQuota`.
    pub limited_resources: Vec<limited_resources::Limited>,
    /// Of the plug-in `EventRateLimit`.
    pub event_limits: Vec<event_rate_limit::Limit>,
    /// Of the plug-in `ImagePolicyWebhook`.
    pub image_policy: Option<image_policy::Configuration>,
    /// Of the plug-in `PodNodeSelector`.
    pub node_selectors: pod_node_selector::Configuration,
    /// Of the plug-in `PodTolerationRestriction`.
    pub tolerations: pod_toleration_restriction::Configuration,
}

impl Default for Settings {
    fn default() -> Self {
        let off = OFF_BY_DEFAULT
            .iter()
            .filter(|name| **name != "NodeRestriction");
        Self {
            without: off.map(|name| (*name).to_owned()).collect(),
            pod_security: pod_security::Configuration::default(),
            toleration_seconds: TolerationSeconds::default(),
            manifests: BTreeMap::new(),
            webhook_users: BTreeMap::new(),
            limited_resources: Vec::new(),
            event_limits: Vec::new(),
            image_policy: None,
            node_selectors: pod_node_selector::Configuration::default(),
            tolerations: pod_toleration_restriction::Configuration::default(),
        }
    }
}

impl Settings {
    /// Whether a plug-in is used.
    pub fn has(&self, plugin: &str) -> bool {
        !self.without.contains(plugin)
    }
}

/// Of the plug-in `DefaultTolerationSeconds`.
#[derive(Clone, Copy, Debug)]
pub struct TolerationSeconds {
    /// On a node that is not ready.
    pub not_ready: i64,
    /// On one that is not reachable.
    pub unreachable: i64,
}

impl Default for TolerationSeconds {
    fn default() -> Self {
        Self {
            not_ready: 300,
            unreachable: 300,
        }
    }
}

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
    /// The operator's settings.
    pub settings: &'a Settings,
    /// Where plug-ins say more than yes and no.
    pub notes: &'a Notes,
    /// For plug-ins that ask what else the user may do.
    pub authorizer: &'a dyn Authorizer,
}

impl Request<'_> {
    /// The request is for this resource itself, in the given group.
    pub(super) fn is_for(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    /// A refusal, in upstream's words.
    pub fn forbidden(&self, object: &Object, why: impl std::fmt::Display) -> ApiError {
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
