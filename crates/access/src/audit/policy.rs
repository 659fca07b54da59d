//! The policy: rules in order, the first that fits a request decides how much of it is written down.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/audit/policy`, `.../apis/audit/validation`.

use machinery::{ErrorList, Path, codec, names};
use serde::Deserialize;

use super::{Level, Stage};
use crate::Attributes;

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no YAML, or no object.
    #[error("failed decoding: {0}")]
    Decoding(String),
    /// It is something else.
    #[error("unknown group version field {api_version}, Kind={kind} in policy")]
    Type {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// Its rules contradict themselves.
    #[error("{}", .0.aggregate())]
    Invalid(ErrorList),
    /// It says nothing.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

/// How much is to be written down of which requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestConfig {
    /// How much.
    pub level: Level,
    /// Stages without an event.
    pub omit_stages: Vec<Stage>,
    /// Who manages which fields is left out of bodies.
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy from a file's text.
    ///
    /// # Errors
    /// It is no policy, or one that cannot be meant.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let decoded = codec::decode_yaml(text);
        let object = decoded.map_err(|e| PolicyError::Decoding(e.to_string()))?;
        let object = object.object;
        if object.api_version() != "audit.k8s.io/v1" || object.kind() != "Policy" {
            return Err(PolicyError::Type {
                api_version: object.api_version().to_owned(),
                kind: object.kind().to_owned(),
            });
        }
        let policy: Self = object
            .view()
            .map_err(|error| PolicyError::Decoding(error.to_string()))?;
        let errors = policy.validate();
        if !errors.is_empty() {
            return Err(PolicyError::Invalid(errors));
        }
        match policy.rules.is_empty() {
            true => Err(PolicyError::Empty),
            false => Ok(policy),
        }
    }

    /// What it says of a request.
    pub fn config(&self, attributes: &Attributes) -> RequestConfig {
        let found = self.rules.iter().find(|rule| rule.fits(attributes));
        let own = found.map_or(&[][..], |rule| &rule.omit_stages);
        let omitted = self.omit_stages.iter().chain(own);
        let omitted = omitted.filter_map(|stage| Stage::parse(stage));
        RequestConfig {
            level: found
                .and_then(|rule| Level::parse(&rule.level))
                .unwrap_or_default(),
            omit_stages: omitted.collect(),
            omit_managed_fields: found
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        check_stages(&mut errors, &Path::new("omitStages"), &self.omit_stages);
        for (i, rule) in self.rules.iter().enumerate() {
            rule.validate(&mut errors, &Path::new("rules").index(i));
        }
        errors
    }
}

impl Rule {
    fn validate(&self, errors: &mut ErrorList, path: &Path) {
        let levels = Level::ALL.map(Level::as_str);
        match self.level.as_str() {
            "" => errors.required(&path.child("level"), ""),
            level if levels.contains(&level) => {}
            level => errors.not_supported(&path.child("level"), level, &levels),
        }
        let urls = path.child("nonResourceURLs");
        for (i, url) in self.non_resource_urls.iter().enumerate() {
            if url == "*" {
                continue;
            }
            if !url.starts_with('/') {
                let why = "non-resource URL rules must begin with a '/' character";
                errors.invalid(&urls.index(i), url.as_str(), why);
            }
            let star = url.find('*');
            if star.is_some_and(|at| at + 1 < url.len()) {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                errors.invalid(&urls.index(i), url.as_str(), why);
            }
        }
        self.validate_resources(errors, &path.child("resources"));
        check_stages(errors, &path.child("omitStages"), &self.omit_stages);
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.non_resource_urls.is_empty() && of_resources {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&urls, self.non_resource_urls.clone(), why);
        }
    }

    fn validate_resources(&self, errors: &mut ErrorList, path: &Path) {
        for of_group in &self.resources {
            let group = of_group.group.as_str();
            if !matches!(group, "" | "*") {
                let problems = names::dns1123_subdomain(group);
                if !problems.is_empty() {
                    errors.invalid(&path.child("group"), group, problems.join(","));
                }
            }
            if !of_group.resource_names.is_empty() && of_group.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                let at = path.child("resourceNames");
                errors.invalid(&at, of_group.resource_names.clone(), why);
            }
        }
    }

    fn fits(&self, request: &Attributes) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|own| own == value);
        let user = &request.user;
        if !self.users.is_empty() && !has(&self.users, &user.name) {
            return false;
        }
        let groups = &self.user_groups;
        if !groups.is_empty() && !user.groups.iter().any(|group| has(groups, group)) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, &request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let in_place = self.namespaces.is_empty() || has(&self.namespaces, &request.namespace);
            let named = self.resources.is_empty()
                || self
                    .resources
                    .iter()
                    .any(|resources| resources.fits(request));
            return request.is_resource_request && in_place && named;
        }
        self.non_resource_urls.is_empty()
            || !request.is_resource_request
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| path_fits(url, &request.path))
    }
}

impl GroupResources {
    fn fits(&self, request: &Attributes) -> bool {
        if self.group != "*" && self.group != request.api_group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&request.name) {
            return false;
        }
        let (resource, sub) = (request.resource.as_str(), request.subresource.as_str());
        let combined = request.combined_resource();
        self.resources.iter().any(|own| {
            own == "*"
                || *own == combined
                || !sub.is_empty() && own.strip_prefix("*/") == Some(sub)
                || own.strip_suffix("/*") == Some(resource)
        })
    }
}

/// A path, or its beginning followed by a star.
fn path_fits(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

fn check_stages(errors: &mut ErrorList, path: &Path, stages: &[String]) {
    for (i, stage) in stages.iter().enumerate() {
        if Stage::parse(stage).is_none() {
            let known = Stage::ALL.map(Stage::as_str).join(",");
            let why = format!("allowed stages are {known}");
            errors.invalid(&path.index(i), stage.as_str(), why);
        }
    }
}
