//! The shape of the policy tables: lists in strings, so that a role reads as lines.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// One policy rule; every field is a list separated by spaces, `core` stands for the group without a name.
#[derive(Clone, Copy)]
pub(super) struct RuleRow {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    paths: &'static str,
}

/// A cluster role.
#[derive(Clone, Copy)]
pub(super) struct RoleRow {
    pub(super) name: &'static str,
    /// The role (`admin`, `edit`, `view`) that takes this one's rules over, or empty.
    pub(super) joins: &'static str,
    /// The aggregate whose rules this role takes over, or empty.
    pub(super) gathers: &'static str,
    pub(super) rules: &'static [RuleRow],
}

/// Verbs on resources of groups.
pub(super) const fn on(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
) -> RuleRow {
    named(verbs, groups, resources, "")
}

/// Verbs on resources of groups, only for objects of these names.
pub(super) const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> RuleRow {
    RuleRow {
        verbs,
        groups,
        resources,
        names,
        paths: "",
    }
}

/// Verbs on paths.
pub(super) const fn at(verbs: &'static str, paths: &'static str) -> RuleRow {
    RuleRow {
        verbs,
        groups: "",
        resources: "",
        names: "",
        paths,
    }
}

/// What everybody needs who writes events.
pub(super) const EVENTS: RuleRow = on("create patch update", "core events.k8s.io", "events");

impl RuleRow {
    /// The rule in the API's shape.
    pub(super) fn rule(&self) -> PolicyRule {
        let list = |words: &str| {
            let words: Vec<String> = words
                .split_whitespace()
                .map(|word| {
                    if word == "core" {
                        String::new()
                    } else {
                        word.to_owned()
                    }
                })
                .collect();
            (!words.is_empty()).then_some(words)
        };
        PolicyRule {
            api_groups: list(self.groups),
            non_resource_urls: list(self.paths),
            resource_names: list(self.names),
            resources: list(self.resources),
            verbs: list(self.verbs).unwrap_or_default(),
        }
    }
}
