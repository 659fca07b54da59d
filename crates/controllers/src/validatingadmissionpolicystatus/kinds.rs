//! Which kinds a policy is about, and what is known of them.

use std::collections::BTreeSet;

use control::{Key, Question, Resource, Target};
use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ValidatingAdmissionPolicy,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery::structural::Structural;

use super::{Definitions, schema_of};

/// The most kinds that a policy is checked for.
const MOST: usize = 10;

/// A resource as a rule calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Called {
    group: String,
    version: String,
    resource: String,
}

/// A kind that is known.
pub(super) struct Found {
    /// `apps/v1, Kind=Deployment`
    pub(super) shown: String,
    pub(super) schema: Structural,
}

impl Called {
    /// The name that its definition would have.
    fn definition(&self) -> String {
        format!("{}.{}", self.resource, self.group)
    }

    fn built_in(&self) -> Option<&'static dyn api::AnyKind> {
        api::KINDS.iter().copied().find(|kind| {
            let names = kind.names();
            (names.group, names.version, names.plural)
                == (&*self.group, &*self.version, &*self.resource)
        })
    }
}

/// The words of a list; none when one of them stands for many.
fn plain(words: Option<&Vec<String>>) -> Option<Vec<String>> {
    let mut words = words.cloned().unwrap_or_default();
    words.sort();
    (!words.is_empty() && !words.iter().any(|w| w.contains('*'))).then_some(words)
}

fn of_rule(rule: &NamedRuleWithOperations) -> Vec<Called> {
    let groups = plain(rule.api_groups.as_ref());
    let versions = plain(rule.api_versions.as_ref());
    let (Some(groups), Some(versions)) = (groups, versions) else {
        return Vec::new();
    };
    let mut resources = rule.resources.clone().unwrap_or_default();
    resources.retain(|resource| !resource.contains(['*', '/']));
    resources.sort();
    let mut all = Vec::new();
    for group in &groups {
        for version in &versions {
            for resource in &resources {
                all.push(Called {
                    group: group.clone(),
                    version: version.clone(),
                    resource: resource.clone(),
                });
            }
        }
    }
    all
}

/// The resources that the constraints of a policy name.
pub(super) fn called(policy: &ValidatingAdmissionPolicy) -> Vec<Called> {
    let constraints = policy
        .spec
        .as_ref()
        .and_then(|s| s.match_constraints.as_ref());
    let rules = constraints.and_then(|c| c.resource_rules.as_ref());
    let all: BTreeSet<Called> = rules.into_iter().flatten().flat_map(of_rule).collect();
    all.into_iter().take(MOST).collect()
}

/// The group, version and kind of the parameters of a policy.
fn param_kind(policy: &ValidatingAdmissionPolicy) -> Option<(String, String, String)> {
    let kind = policy.spec.as_ref()?.param_kind.as_ref()?;
    let version = kind.api_version.as_deref()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Some((group.to_owned(), version.to_owned(), kind.kind.clone()?))
}

/// The resource that a custom kind most probably has.
fn plural(kind: &str) -> String {
    let singular = kind.to_ascii_lowercase();
    match singular.as_bytes().last() {
        Some(b's') => format!("{singular}es"),
        Some(b'y') => format!("{}ies", &singular[..singular.len() - 1]),
        _ => format!("{singular}s"),
    }
}

fn definition_of_params(policy: &ValidatingAdmissionPolicy) -> Option<String> {
    let (group, version, kind) = param_kind(policy)?;
    let custom = api::by_kind(&group, &version, &kind).is_none() && !group.is_empty();
    custom.then(|| format!("{}.{group}", plural(&kind)))
}

/// The definitions that have to be asked for.
pub(super) fn open(
    policy: &ValidatingAdmissionPolicy,
    called: &[Called],
    known: &Definitions,
) -> Vec<Question> {
    let custom = called
        .iter()
        .filter(|c| c.built_in().is_none() && !c.group.is_empty());
    let mut names: BTreeSet<String> = custom.map(Called::definition).collect();
    names.extend(definition_of_params(policy));
    names.retain(|name| !known.contains_key(name));
    let question = |name: String| {
        Question::Get(Target {
            resource: Resource::of::<CustomResourceDefinition>(),
            key: Key::cluster(name),
        })
    };
    names.into_iter().map(question).collect()
}

fn shown(group: &str, version: &str, kind: &str) -> String {
    format!("{group}/{version}, Kind={kind}")
}

fn of_built_in(kind: &dyn api::AnyKind) -> Option<Structural> {
    let schema = kind.schema()?;
    let mut schema = Structural::of_schema(&schema)?;
    schema.add_meta(true);
    Some(schema)
}

/// The kinds that are known, in their order.
pub(super) fn found(called: &[Called], definitions: &Definitions) -> Vec<Found> {
    let mut all: Vec<Found> = called
        .iter()
        .filter_map(|own| {
            if let Some(kind) = own.built_in() {
                return Some(Found {
                    shown: shown(&own.group, &own.version, kind.names().kind),
                    schema: of_built_in(kind)?,
                });
            }
            let definition = definitions.get(&own.definition())?.as_ref()?;
            Some(Found {
                shown: shown(&own.group, &own.version, &definition.spec.names.kind),
                schema: schema_of(definition, &own.version)?,
            })
        })
        .collect();
    all.sort_by(|a, b| a.shown.cmp(&b.shown));
    all
}

/// The schema of the parameters of a policy, if it is known.
pub(super) fn params(
    policy: &ValidatingAdmissionPolicy,
    definitions: &Definitions,
) -> Option<Structural> {
    let (group, version, kind) = param_kind(policy)?;
    if let Some(known) = api::by_kind(&group, &version, &kind) {
        return of_built_in(known);
    }
    let definition = definitions.get(&definition_of_params(policy)?)?.as_ref()?;
    (definition.spec.names.kind == kind).then(|| schema_of(definition, &version))?
}
