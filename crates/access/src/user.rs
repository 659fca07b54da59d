//! Identities: who a request comes from.
//!
//! Behaviour and names: `k8s.io/apiserver/pkg/authentication/user`, `.../authentication/serviceaccount`.

use std::collections::BTreeMap;

use machinery::names;

/// The group that may do everything, whatever the policy says.
pub const SYSTEM_MASTERS: &str = "system:masters";
/// The group of kubelets.
pub const SYSTEM_NODES: &str = "system:nodes";
/// The group of monitoring systems.
pub const SYSTEM_MONITORING: &str = "system:monitoring";
/// The group of everybody who has shown no credentials.
pub const SYSTEM_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of everybody who has shown credentials.
pub const SYSTEM_AUTHENTICATED: &str = "system:authenticated";
/// The user without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The API server itself.
pub const API_SERVER: &str = "system:apiserver";
/// The service proxy.
pub const KUBE_PROXY: &str = "system:kube-proxy";
/// The controller manager.
pub const KUBE_CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// The scheduler.
pub const KUBE_SCHEDULER: &str = "system:kube-scheduler";
/// What every kubelet's user name starts with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// What every service account's user name starts with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Extra: the credential the user was known by.
pub const EXTRA_CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Extra: the pod a token is bound to.
pub const EXTRA_POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Extra: the UID of the pod a token is bound to.
pub const EXTRA_POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Extra: the node a token is bound to, or whose pod it is bound to.
pub const EXTRA_NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Extra: the UID of that node.
pub const EXTRA_NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Unique among all users.
    pub name: String,
    /// Tells apart users of one name over time; often empty.
    pub uid: String,
    /// Groups, in the order the authenticator gave them.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with a name and groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The user without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[SYSTEM_UNAUTHENTICATED])
    }

    /// The user of a client certificate: the subject's common name and organizations.
    ///
    /// `None` without a common name. `credential_id` is `X509SHA256=<hex of the certificate's SHA-256>`.
    pub fn from_certificate(
        common_name: &str,
        organizations: Vec<String>,
        credential_id: &str,
    ) -> Option<Self> {
        if common_name.is_empty() {
            return None;
        }
        let mut extra = BTreeMap::new();
        if !credential_id.is_empty() {
            extra.insert(
                EXTRA_CREDENTIAL_ID.to_owned(),
                vec![credential_id.to_owned()],
            );
        }
        let (name, uid) = (common_name.to_owned(), String::new());
        Some(Self {
            name,
            uid,
            groups: organizations,
            extra,
        })
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: service_account_name(namespace, name),
            uid: uid.to_owned(),
            groups: vec![SERVICE_ACCOUNTS.to_owned(), service_accounts_of(namespace)],
            extra: BTreeMap::new(),
        }
    }

    /// Adds the group of everybody with credentials, unless the user is anonymous or has it.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let known = |g: &String| g == SYSTEM_AUTHENTICATED || g == SYSTEM_UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(known) {
            self.groups.push(SYSTEM_AUTHENTICATED.to_owned());
        }
        self
    }

    /// The user is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node whose kubelet this is: the name prefix and the group must both be there.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_USER_PREFIX)?;
        (self.is_in(SYSTEM_NODES) && !name.is_empty()).then_some(name)
    }
}

/// The user name of a service account.
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The group of a namespace's service accounts.
pub fn service_accounts_of(namespace: &str) -> String {
    format!("{SERVICE_ACCOUNTS}:{namespace}")
}

/// Namespace and name of a service account's user name; both must be names that such objects can have.
pub fn split_service_account(user_name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user_name
        .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
        .split_once(':')?;
    let good =
        names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    good.then_some((namespace, name))
}
