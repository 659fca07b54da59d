//! The conditions of a namespace that is ending.

use control::{Resource, StatusWrite, Verb};
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Observed;
use super::reconcile::Counts;

/// Type, reason and message of each condition while all is well.
const WELL: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// What is left, by kind and by finalizer.
#[derive(Default)]
pub(super) struct Remaining {
    kinds: Counts,
    finalizers: Counts,
}

impl Remaining {
    /// One more object of this kind.
    pub(super) fn count<'a>(
        &mut self,
        resource: &Resource,
        finalizers: impl Iterator<Item = &'a String>,
    ) {
        let kind = format!("{}.{}", resource.plural, resource.group);
        *self.kinds.entry(kind).or_default() += 1;
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }

    fn told(&self, kind: &str) -> Option<(&'static str, String)> {
        let list = |counts: &Counts, between: &str| {
            let parts = counts
                .iter()
                .map(|(what, count)| format!("{what} {between} {count} resource instances"));
            parts.collect::<Vec<_>>().join(", ")
        };
        match kind {
            "NamespaceContentRemaining" if !self.kinds.is_empty() => Some((
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", list(&self.kinds, "has")),
            )),
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => Some((
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    list(&self.finalizers, "in")
                ),
            )),
            _ => None,
        }
    }
}

fn failure(o: &Observed, kind: &str) -> Option<(&'static str, String)> {
    let failure = o.failure.as_ref()?;
    let concerned = matches!(failure.verb, Verb::Delete | Verb::Read);
    if kind != "NamespaceDeletionContentFailure" || !concerned {
        return None;
    }
    let text = format!(
        "Failed to delete all resource types, 1 remaining: {}",
        failure.message
    );
    Some(("ContentDeletionFailed", text))
}

/// The status write, if a condition changes.
pub(super) fn write(o: &Observed, remaining: &Remaining) -> Option<StatusWrite> {
    let mut namespace = o.namespace.as_ref().clone();
    let status = namespace.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    let now = Some(Time(machinery::time::truncate(o.now)));
    for (kind, reason, message) in WELL {
        let bad = remaining.told(kind).or_else(|| failure(o, kind));
        let state = if bad.is_some() { "True" } else { "False" };
        let (reason, message) = bad.unwrap_or((reason, message.to_owned()));
        let mut new = NamespaceCondition {
            type_: kind.to_owned(),
            status: state.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: now.clone(),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => {
                conditions.push(new);
                changed = true;
            }
            Some(old) => {
                if old.status == new.status {
                    new.last_transition_time
                        .clone_from(&old.last_transition_time);
                }
                changed |= *old != new;
                *old = new;
            }
        }
    }
    changed.then(|| StatusWrite::of(&namespace))
}
