//! Mode ABAC: a file with one policy a line, read once when the server starts.
//!
//! A line is an object of `abac.authorization.kubernetes.io/v1beta1`, or one of before that says no version. A request is allowed
//! when one line fits it; none ever refuses one.
//! Behaviour: `pkg/auth/authorizer/abac`, `pkg/apis/abac`.

use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule};
use machinery::codec;
use serde::Deserialize;
use serde_json::Value;

use crate::user::SYSTEM_AUTHENTICATED;
use crate::{Attributes, Authorizer, Rules, User, Verdict};

const GROUP: &str = "abac.authorization.kubernetes.io";
/// No line is longer.
const LONGEST_LINE: usize = 64 << 10;

/// The lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies(Vec<Policy>);

/// One line: whom it is about, and what it lets them do. `*` is everything; what is not said is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    #[serde(rename = "nonResourcePath")]
    path: String,
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// A line is none.
    #[error("error reading policy file {file}, line {number}: {line}: {why}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        number: usize,
        /// The line itself.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// A line is too long to be read.
    #[error("error reading policy file {file}: bufio.Scanner: token too long")]
    TooLong {
        /// The file.
        file: String,
    },
}

impl Policies {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub fn parse(text: &str, file: &str) -> Result<Self, BadPolicy> {
        let mut all = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.len() >= LONGEST_LINE {
                let file = file.to_owned();
                return Err(BadPolicy::TooLong { file });
            }
            let said = line.trim();
            if said.is_empty() || said.starts_with('#') {
                continue;
            }
            let policy = Policy::parse(line).map_err(|why| BadPolicy::Line {
                file: file.to_owned(),
                number: index + 1,
                line: line.to_owned(),
                why,
            })?;
            all.push(policy);
        }
        Ok(Self(all))
    }
}

impl Policy {
    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = match line.trim_start().starts_with('{') {
            true => serde_json::from_str(line)
                .map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))?,
            false => {
                codec::decode_yaml_value(line.as_bytes())
                    .map_err(|e| e.to_string())?
                    .0
            }
        };
        if !value.is_object() {
            return Err("couldn't get version/kind; json parse error: not an object".to_owned());
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let read = |value: &Value| Self::deserialize(value).map_err(|e| e.to_string());
        match (text("apiVersion"), text("kind")) {
            (version, "Policy") if version == format!("{GROUP}/v1beta1") => {
                let spec = match &value["spec"] {
                    Value::Null => Self::default(),
                    spec => read(spec)?,
                };
                Ok(spec.for_known_subjects())
            }
            (version, kind)
                if (version.is_empty() || version == format!("{GROUP}/v0"))
                    && matches!(kind, "" | "Policy") =>
            {
                Ok(read(&value)?.of_before())
            }
            (version, kind) => Err(format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/apis/abac/register.go:30\""
            )),
        }
    }

    /// Everybody is everybody who has shown credentials.
    fn for_known_subjects(mut self) -> Self {
        if self.user == "*" || self.group == "*" {
            SYSTEM_AUTHENTICATED.clone_into(&mut self.group);
            self.user.clear();
        }
        self
    }

    /// Lines without a version say less and mean more.
    fn of_before(self) -> Self {
        let all = |text: String| match text.as_str() {
            "" => "*".to_owned(),
            _ => text,
        };
        let everywhere = self.namespace.is_empty() && self.resource.is_empty();
        let everybody = self.user.is_empty() && self.group.is_empty();
        Self {
            group: match everybody {
                true => "*".to_owned(),
                false => self.group,
            },
            user: self.user,
            readonly: self.readonly,
            api_group: "*".to_owned(),
            resource: all(self.resource),
            namespace: all(self.namespace),
            path: match everywhere {
                true => "*".to_owned(),
                false => String::new(),
            },
        }
        .for_known_subjects()
    }

    fn is_about(&self, user: &User) -> bool {
        let is_user = self.user.is_empty() || self.user == user.name;
        let in_group = self.group.is_empty() || user.is_in(&self.group);
        is_user && in_group && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, request: &Attributes) -> bool {
        let fits = |own: &str, asked: &str| own == "*" || own == asked;
        if !self.is_about(&request.user) || (self.readonly && !request.is_read_only()) {
            return false;
        }
        if request.is_resource_request {
            return fits(&self.namespace, &request.namespace)
                && fits(&self.resource, &request.resource)
                && fits(&self.api_group, &request.api_group);
        }
        let below = || {
            let stem = self.path.trim_end_matches('*');
            self.path.ends_with('*') && request.path.starts_with(stem)
        };
        self.path == request.path || below()
    }

    fn verbs(&self) -> Vec<String> {
        let verbs: &[&str] = match self.readonly {
            true => &["get", "list", "watch"],
            false => &["*"],
        };
        verbs.iter().map(|verb| (*verb).to_owned()).collect()
    }
}

impl Authorizer for Policies {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        match self.0.iter().any(|policy| policy.allows(attributes)) {
            true => Verdict::allow(""),
            // Behind the name of this authorizer, as upstream's chain puts it.
            false => Verdict::no_opinion("abac: No policy matched."),
        }
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut rules = Rules::default();
        let here = |policy: &&Policy| policy.namespace == "*" || policy.namespace == namespace;
        let about = self.0.iter().filter(|policy| policy.is_about(user));
        for policy in about.filter(here) {
            if !policy.resource.is_empty() {
                rules.resource.push(ResourceRule {
                    verbs: policy.verbs(),
                    api_groups: Some(vec![policy.api_group.clone()]),
                    resources: Some(vec![policy.resource.clone()]),
                    resource_names: None,
                });
            }
            if !policy.path.is_empty() {
                rules.non_resource.push(NonResourceRule {
                    verbs: policy.verbs(),
                    non_resource_urls: Some(vec![policy.path.clone()]),
                });
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests;
