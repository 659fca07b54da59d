//! `AuthorizationConfiguration`: the authorizers in their order.
//!
//! Behaviour: `k8s.io/apiserver/pkg/apis/apiserver`, its `validation`.

use std::sync::Arc;
use std::time::Duration;

use machinery::{ErrorList, Path, duration, names};
use serde::Deserialize;

use super::Conditions;
use super::abac::Policies;
use crate::{Decision, settings_file};

/// What is asked, in order, after `system:masters` has been let in.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The authorizers.
    pub links: Vec<Link>,
}

/// One authorizer.
#[derive(Clone, Debug)]
pub enum Link {
    /// What kubelets may do follows from their pods.
    Node,
    /// Roles and bindings.
    Rbac,
    /// Everything is allowed.
    AlwaysAllow,
    /// Nothing is, by this one.
    AlwaysDeny,
    /// What the lines of a file allow.
    Abac(Arc<Policies>),
    /// Somebody elsewhere is asked.
    Webhook(Box<Webhook>),
}

/// What stands for a decision that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next is asked.
    NoOpinion,
    /// The request is refused.
    Deny,
}

impl FailurePolicy {
    /// The decision.
    pub fn decision(self) -> Decision {
        match self {
            Self::NoOpinion => Decision::NoOpinion,
            Self::Deny => Decision::Deny,
        }
    }
}

/// Somebody elsewhere who is asked.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name, for logs and metrics.
    pub name: String,
    /// How long `allowed` is good for; zero: not at all.
    pub authorized_ttl: Duration,
    /// How long anything else is good for.
    pub unauthorized_ttl: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The version of the review: `v1` or `v1beta1`.
    pub version: String,
    /// What a failure means.
    pub failure_policy: FailurePolicy,
    /// How it is reached: a kubeconfig; none: the server's own address and identity.
    pub kubeconfig: Option<String>,
    /// When it is asked.
    pub conditions: Conditions,
}

const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const MOST_CONDITIONS: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Authorizer {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    name: String,
    webhook: Option<Settings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    #[serde(rename = "authorizedTTL", default)]
    authorized_ttl: Option<String>,
    #[serde(default)]
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", default)]
    unauthorized_ttl: Option<String>,
    #[serde(default)]
    cache_unauthorized_requests: Option<bool>,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    #[serde(default)]
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(default)]
    r#type: String,
    kube_config_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    expression: String,
}

impl Configuration {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, all of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = settings_file::read(text, "AuthorizationConfiguration")?;
        let mut errors = ErrorList::new();
        let links = file.links(&mut errors);
        match errors.is_empty() {
            true => Ok(Self { links }),
            false => Err(errors.aggregate()),
        }
    }
}

impl File {
    fn links(self, errors: &mut ErrorList) -> Vec<Link> {
        let root = Path::new("authorizers");
        if self.authorizers.is_empty() {
            errors.required(&root, "at least one authorization mode must be defined");
        }
        let mut types: Vec<String> = Vec::new();
        let mut taken: Vec<String> = Vec::new();
        let mut links = Vec::new();
        for (index, one) in self.authorizers.into_iter().enumerate() {
            let path = root.index(index);
            let kind = one.r#type.as_str();
            if kind.is_empty() {
                errors.required(&path.child("type"), "");
                continue;
            }
            if !TYPES.contains(&kind) {
                errors.not_supported(&path.child("type"), kind, &TYPES);
                continue;
            }
            if kind != "Webhook" && types.iter().any(|t| t == kind) {
                errors.duplicate(&path.child("type"), kind);
                continue;
            }
            types.push(kind.to_owned());
            check_name(errors, &path.child("name"), &one.name, &taken);
            taken.push(one.name.clone());
            links.extend(one.link(errors, &path));
        }
        links
    }
}

fn check_name(errors: &mut ErrorList, path: &Path, name: &str, taken: &[String]) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if taken.iter().any(|t| t == name) {
        errors.duplicate(path, name);
        return;
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        let why = format!("authorizer name is invalid: {}", wrong.join(", "));
        errors.invalid(path, name, why);
    }
}

impl Authorizer {
    fn link(self, errors: &mut ErrorList, path: &Path) -> Option<Link> {
        let at = path.child("webhook");
        let link = match (self.r#type.as_str(), self.webhook) {
            ("Webhook", None) => {
                errors.required(&at, "required when type=Webhook");
                return None;
            }
            ("Webhook", Some(settings)) => {
                let webhook = settings.webhook(self.name, errors, path)?;
                return Some(Link::Webhook(Box::new(webhook)));
            }
            (_, Some(_)) => {
                errors.invalid(&at, "non-null", "may only be specified when type=Webhook");
                return None;
            }
            ("Node", None) => Link::Node,
            ("RBAC", None) => Link::Rbac,
            ("AlwaysAllow", None) => Link::AlwaysAllow,
            _ => Link::AlwaysDeny,
        };
        Some(link)
    }
}

impl Settings {
    fn webhook(self, name: String, errors: &mut ErrorList, path: &Path) -> Option<Webhook> {
        let most = Duration::from_secs(30);
        let timeout = length(
            errors,
            &path.child("timeout"),
            self.timeout.as_deref(),
            Some(most),
        );
        let mut ttl = |field: &str, given: Option<String>, keep: Option<bool>, unsaid: u64| {
            let unsaid = format!("{unsaid}s");
            let given = given
                .filter(|g| !g.is_empty() && g != "0s")
                .unwrap_or(unsaid);
            let found = length(errors, &path.child(field), Some(&given), None);
            match keep {
                Some(false) => Duration::ZERO,
                _ => found,
            }
        };
        let authorized_ttl = ttl(
            "authorizedTTL",
            self.authorized_ttl,
            self.cache_authorized_requests,
            300,
        );
        let unauthorized_ttl = ttl(
            "unauthorizedTTL",
            self.unauthorized_ttl,
            self.cache_unauthorized_requests,
            30,
        );
        let version = self.subject_access_review_version;
        one_of(
            errors,
            &path.child("subjectAccessReviewVersion"),
            &version,
            &["v1", "v1beta1"],
        );
        let at = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "" if self.match_conditions.is_empty() => {}
            "" => errors.required(&at, "required if match conditions are specified"),
            given => one_of(errors, &at, given, &["v1"]),
        }
        let policy = self.failure_policy;
        one_of(
            errors,
            &path.child("failurePolicy"),
            &policy,
            &["NoOpinion", "Deny"],
        );
        let kubeconfig = self.connection_info.check(errors, path);
        let conditions = compile(errors, path, &self.match_conditions);
        Some(Webhook {
            name,
            authorized_ttl,
            unauthorized_ttl,
            timeout,
            version,
            failure_policy: match policy.as_str() {
                "Deny" => FailurePolicy::Deny,
                _ => FailurePolicy::NoOpinion,
            },
            kubeconfig,
            conditions,
        })
    }
}

fn one_of(errors: &mut ErrorList, path: &Path, given: &str, known: &[&str]) {
    if given.is_empty() {
        errors.required(path, "");
    } else if !known.contains(&given) {
        errors.not_supported(path, given, known);
    }
}

/// A length of time that must be more than nothing.
fn length(
    errors: &mut ErrorList,
    path: &Path,
    given: Option<&str>,
    most: Option<Duration>,
) -> Duration {
    let Some(given) = given.filter(|g| !g.is_empty() && *g != "0s" && *g != "0") else {
        errors.required(path, "");
        return Duration::ZERO;
    };
    let found = duration::parse(given).and_then(|d| Duration::try_from(d).ok());
    let fits = |d: &Duration| !d.is_zero() && most.is_none_or(|most| *d <= most);
    found.filter(fits).unwrap_or_else(|| {
        let why = match most {
            Some(most) => format!("must be > 0s and <= {}s", most.as_secs()),
            None => "must be > 0s".to_owned(),
        };
        errors.invalid(path, given, why);
        Duration::ZERO
    })
}

impl Connection {
    fn check(self, errors: &mut ErrorList, path: &Path) -> Option<String> {
        const KINDS: [&str; 2] = ["InClusterConfig", "KubeConfigFile"];
        let at = path.child("connectionInfo");
        let file_at = at.child("kubeConfigFile");
        let file = self.kube_config_file.unwrap_or_default();
        match self.r#type.as_str() {
            "" => errors.required(&at.child("type"), ""),
            "InClusterConfig" if file.is_empty() => {}
            "InClusterConfig" => {
                errors.invalid(&file_at, file, "can only be set when type=KubeConfigFile");
            }
            "KubeConfigFile" if file.is_empty() => errors.required(&file_at, ""),
            "KubeConfigFile" if !file.starts_with('/') => {
                errors.invalid(&file_at, file, "must be an absolute path");
            }
            "KubeConfigFile" => return Some(file),
            other => errors.not_supported(&at.child("type"), other, &KINDS),
        }
        None
    }
}

fn compile(errors: &mut ErrorList, path: &Path, all: &[Condition]) -> Conditions {
    let mut conditions = Conditions::default();
    let path = path.child("matchConditions");
    if all.len() > MOST_CONDITIONS {
        errors.too_many(&path, all.len(), MOST_CONDITIONS);
        return conditions;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in all.iter().enumerate() {
        let at = path.index(index).child("expression");
        let text = condition.expression.as_str();
        if text.trim().is_empty() {
            errors.required(&at, "");
        } else if seen.contains(&text) {
            errors.duplicate(&at, text);
        } else if let Err(why) = conditions.add(text) {
            errors.invalid(&at, text, why);
        }
        seen.push(text);
    }
    conditions
}
