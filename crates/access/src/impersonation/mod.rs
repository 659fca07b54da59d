//! Acting as somebody else: in which ways a caller may, and what he must be allowed for each.
//!
//! There are several [`Mode`]s. Those that are constrained want two rights: to act as this user at all, and to make this request
//! while doing so (`impersonate-on:<mode>:<verb>`). What is left is the old way, which wants one right for each part of the
//! other identity. [`attempts`] lists the ways that are open to a caller with all questions of each; nothing here asks them.
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`, KEP-5284.

mod key;

use std::sync::Arc;

use machinery::ApiError;
use machinery::field::{ErrorList, Path};

use crate::quote::quote;
use crate::user::{
    ANONYMOUS, EXTRA_NODE_NAME, NODE_USER_PREFIX, SERVICE_ACCOUNTS, SYSTEM_AUTHENTICATED,
    SYSTEM_MASTERS, SYSTEM_NODES, SYSTEM_UNAUTHENTICATED, service_accounts_of,
    split_service_account,
};
use crate::{Attributes, User};

pub use key::Key;

const AUTHENTICATION: &str = "authentication.k8s.io";
/// Extra: stands for all that a service account's token says, where a right must not depend on it.
const EXTRA_ASSOCIATED_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// From so many questions of one sort on, one about all of them comes first.
const MANY: usize = 4;

/// A way of acting as somebody else, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A service account acts as the node that its token is bound to.
    AssociatedNode,
    /// Somebody acts as a node.
    ArbitraryNode,
    /// Somebody acts as a service account.
    ServiceAccount,
    /// Somebody acts as a user who is neither.
    UserInfo,
    /// The old way.
    Legacy,
}

impl Mode {
    /// As verbs and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "legacy",
        }
    }

    /// The verb that stands for this way of acting.
    pub fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Legacy => "impersonate",
        }
    }

    fn is_constrained(self) -> bool {
        self != Self::Legacy
    }
}

/// Something that must hold.
#[derive(Clone, Debug)]
pub enum Part {
    /// The caller may do this.
    One(Attributes),
    /// He may do all of a sort, or each of these.
    Many(Attributes, Vec<Attributes>),
    /// It does not hold.
    Never(ApiError),
}

/// One way of acting as somebody, and what it takes.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The way.
    pub mode: Mode,
    /// Who the caller becomes.
    pub user: User,
    /// The right to make this request in this way; the old way wants none.
    pub request: Option<Attributes>,
    /// The right to act as this user.
    pub parts: Vec<Part>,
    wanted: User,
}

impl Attempt {
    /// What to remember that the request may be made so by, and what that the caller may act so; `None` for the old way,
    /// which is asked about every time.
    pub fn keys(&self) -> Option<(Key, Key)> {
        let request = self.request.as_ref()?;
        let person = Key::of(self.mode.name(), &self.wanted, &request.user, None);
        let whole = Key::of(self.mode.name(), &self.wanted, &request.user, Some(request));
        Some((whole, person))
    }
}

/// The ways in which the caller of a request might act as somebody, in their order.
pub fn attempts(wanted: &User, request: &Attributes) -> Vec<Attempt> {
    let caller = &request.user;
    let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
    let node = node_name(&wanted.name);
    let account = split_service_account(&wanted.name).is_some();
    let own = node.is_some() && node == own_node(caller);
    let open = [
        (Mode::AssociatedNode, only_name && own),
        (Mode::ArbitraryNode, only_name && node.is_some()),
        (Mode::ServiceAccount, only_name && account),
        (Mode::UserInfo, node.is_none() && !account),
        (Mode::Legacy, true),
    ];
    let open = open.into_iter().filter(|(_, open)| *open);
    open.map(|(mode, _)| attempt(mode, wanted, request))
        .collect()
}

fn attempt(mode: Mode, wanted: &User, request: &Attributes) -> Attempt {
    let caller = match mode {
        Mode::AssociatedNode => Arc::new(without_extra(&request.user)),
        _ => request.user.clone(),
    };
    let questions = Questions {
        mode,
        caller: &caller,
    };
    let parts = questions.parts(wanted);
    let on = mode.is_constrained().then(|| Attributes {
        user: caller.clone(),
        verb: format!("impersonate-on:{}:{}", mode.name(), request.verb),
        ..request.clone()
    });
    // Rights of an associated node hold on all nodes, and so do answers that are remembered.
    let remembered = match mode {
        Mode::AssociatedNode => User::new("system:node:*", &[]),
        _ => wanted.clone(),
    };
    Attempt {
        mode,
        user: complete(mode, wanted),
        request: on,
        parts,
        wanted: remembered,
    }
}

/// The questions of one way.
struct Questions<'a> {
    mode: Mode,
    caller: &'a Arc<User>,
}

impl Questions<'_> {
    fn parts(&self, wanted: &User) -> Vec<Part> {
        let mut parts = vec![Part::One(self.name(&wanted.name))];
        if !wanted.uid.is_empty() {
            parts.push(Part::One(self.ask(AUTHENTICATION, "uids", &wanted.uid)));
        }
        parts.extend(self.groups(&wanted.groups));
        parts.extend(self.extra(wanted));
        parts
    }

    fn ask(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            user: self.caller.clone(),
            verb: self.mode.verb().to_owned(),
            api_group: group.to_owned(),
            api_version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            is_resource_request: true,
            ..Attributes::default()
        }
    }

    /// The group of users and groups: that of the core in the old way.
    fn group(&self) -> &'static str {
        match self.mode {
            Mode::Legacy => "",
            _ => AUTHENTICATION,
        }
    }

    fn name(&self, name: &str) -> Attributes {
        if self.mode == Mode::AssociatedNode {
            return self.ask(self.group(), "nodes", "*");
        }
        if let (true, Some(node)) = (self.mode.is_constrained(), node_name(name)) {
            return self.ask(self.group(), "nodes", node);
        }
        match split_service_account(name) {
            Some((namespace, name)) => Attributes {
                namespace: namespace.to_owned(),
                ..self.ask(self.group(), "serviceaccounts", name)
            },
            None => self.ask(self.group(), "users", name),
        }
    }

    fn groups(&self, groups: &[String]) -> Vec<Part> {
        let ask = |name: &str| self.ask(self.group(), "groups", name);
        let each: Vec<_> = groups.iter().map(|group| ask(group)).collect();
        if !self.mode.is_constrained() {
            return each.into_iter().map(Part::One).collect();
        }
        if groups.iter().any(String::is_empty) {
            let why = "impersonating the empty string group is not allowed";
            return vec![Part::Never(ask("").forbidden(why))];
        }
        if groups.iter().any(|group| group == SYSTEM_MASTERS) {
            let why = "impersonating the system:masters group is not allowed";
            return vec![Part::Never(ask(SYSTEM_MASTERS).forbidden(why))];
        }
        many(groups.len() >= MANY, || ask("*"), each)
    }

    fn extra(&self, wanted: &User) -> Vec<Part> {
        let ask = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.ask(AUTHENTICATION, "userextras", value)
        };
        let all = wanted.extra.iter();
        let each = all.flat_map(|(key, values)| values.iter().map(move |value| ask(key, value)));
        let each: Vec<_> = each.collect();
        if !self.mode.is_constrained() {
            return each.into_iter().map(Part::One).collect();
        }
        for (key, values) in &wanted.extra {
            if let Some(why) = problem_of_extra(key, values) {
                return vec![Part::Never(ask("", "").forbidden(&why))];
            }
        }
        many(each.len() >= MANY, || ask("*", "*"), each)
    }
}

fn many(many: bool, all: impl FnOnce() -> Attributes, each: Vec<Attributes>) -> Vec<Part> {
    match many {
        true => vec![Part::Many(all(), each)],
        false => each.into_iter().map(Part::One).collect(),
    }
}

/// Why nobody may take this on in a constrained way.
fn problem_of_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors = ErrorList::new();
    let at = Path::new("extra").child("key");
    api::check::domain_prefixed_path(&mut errors, &at, key);
    if !errors.is_empty() {
        let why = "impersonating an invalid key in extra is not allowed";
        return Some(format!("{why}: {}", errors.aggregate()));
    }
    if key.chars().any(char::is_uppercase) {
        let why = "impersonating a non-lowercase key in extra is not allowed";
        return Some(format!("{why}: {}", quote(key)));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_owned());
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// Who the caller becomes: with the groups that follow from the name.
fn complete(mode: Mode, wanted: &User) -> User {
    let mut user = wanted.clone();
    if mode.is_constrained() && node_name(&user.name).is_some() {
        user.groups = vec![SYSTEM_NODES.to_owned()];
    }
    if let (Some((namespace, _)), true) =
        (split_service_account(&wanted.name), user.groups.is_empty())
    {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), service_accounts_of(namespace)];
    }
    if user.name == ANONYMOUS {
        join(&mut user, SYSTEM_UNAUTHENTICATED);
    } else if !user.is_in(SYSTEM_UNAUTHENTICATED) {
        join(&mut user, SYSTEM_AUTHENTICATED);
    }
    user
}

fn join(user: &mut User, group: &str) {
    if !user.is_in(group) {
        user.groups.push(group.to_owned());
    }
}

/// The node of a user name that a kubelet could have.
fn node_name(user_name: &str) -> Option<&str> {
    let name = user_name.strip_prefix(NODE_USER_PREFIX)?;
    machinery::names::dns1123_subdomain(name)
        .is_empty()
        .then_some(name)
}

/// The node that a service account's token is bound to.
fn own_node(caller: &User) -> Option<&str> {
    split_service_account(&caller.name)?;
    match caller.extra.get(EXTRA_NODE_NAME)?.as_slice() {
        [node] => Some(node),
        _ => None,
    }
}

/// The caller, of whose token only the sort is told.
fn without_extra(caller: &User) -> User {
    let keys = caller.extra.keys().cloned().collect();
    User {
        extra: [(EXTRA_ASSOCIATED_KEYS.to_owned(), keys)].into(),
        ..caller.clone()
    }
}

#[cfg(test)]
mod tests;
