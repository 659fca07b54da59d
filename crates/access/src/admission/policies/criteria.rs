//! Which writes a policy or a binding is about: rules with names and exceptions, on top of the words of [`rules`].

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};
use machinery::ApiError;

use crate::admission::rules::{self, Criteria, Subject};

/// What a policy or a binding is about.
#[derive(Debug)]
pub(super) struct Matching {
    rules: Vec<Named>,
    except: Vec<Named>,
    /// The selectors, without rules; or what is wrong with them.
    selectors: Result<Criteria, String>,
    exact: bool,
}

#[derive(Debug)]
struct Named {
    rule: RuleWithOperations,
    /// None: all.
    names: Vec<String>,
}

fn named(rules: Option<&Vec<NamedRuleWithOperations>>) -> Vec<Named> {
    let all = rules.into_iter().flatten();
    all.map(|own| Named {
        rule: RuleWithOperations {
            api_groups: own.api_groups.clone(),
            api_versions: own.api_versions.clone(),
            operations: own.operations.clone(),
            resources: own.resources.clone(),
            scope: own.scope.clone(),
        },
        names: own.resource_names.clone().unwrap_or_default(),
    })
    .collect()
}

impl Matching {
    pub(super) fn new(resources: &MatchResources) -> Self {
        Self {
            rules: named(resources.resource_rules.as_ref()),
            except: named(resources.exclude_resource_rules.as_ref()),
            selectors: Criteria::new(
                Vec::new(),
                resources.namespace_selector.as_ref(),
                resources.object_selector.as_ref(),
                None,
            ),
            exact: resources.match_policy.as_deref() != Some("Equivalent"),
        }
    }

    /// The place in the names of a write of the one that matches, if any does.
    ///
    /// # Errors
    /// The namespace is selected by labels and is not there, or a selector is none.
    pub(super) fn place(
        &self,
        subject: &Subject<'_>,
        name: &str,
    ) -> Result<Option<usize>, ApiError> {
        let selectors = self.selectors.as_ref().map_err(ApiError::internal)?;
        if !selectors.object_selected(subject) {
            return Ok(None);
        }
        if self.among(&self.except, subject, name).is_some() {
            return Ok(None);
        }
        // A binding without rules is about all that its policy is about.
        let place = match self.rules.as_slice() {
            [] => Some(0),
            rules => self.among(rules, subject, name),
        };
        let Some(place) = place else { return Ok(None) };
        Ok(selectors.namespace_selected(subject)?.then_some(place))
    }

    fn among(&self, rules: &[Named], subject: &Subject<'_>, name: &str) -> Option<usize> {
        let own = subject.names.first()?;
        let is_named = |one: &Named| one.names.is_empty() || one.names.iter().any(|n| n == name);
        let fits = |one: &Named, own| is_named(one) && rules::matches(&one.rule, subject, own);
        if rules.iter().any(|one| fits(one, own)) {
            return Some(0);
        }
        if self.exact {
            return None;
        }
        // Earlier rules first.
        rules.iter().find_map(|one| {
            let mut others = subject.names.iter().enumerate().skip(1);
            others
                .find(|(_, own)| fits(one, own))
                .map(|(place, _)| place)
        })
    }
}
