//! When enough indexes have succeeded: `spec.successPolicy`.

use std::collections::BTreeSet;

use api::batch::indexes;
use k8s_openapi::api::batch::v1::JobSpec;

/// The message of the first rule that is met.
pub(super) fn met(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<String> {
    let rules = spec.success_policy.as_ref().map(|p| &p.rules);
    if succeeded.is_empty() {
        return None;
    }
    let completions = spec.completions.unwrap_or(0);
    let enough = |count: usize, wanted: Option<i32>| {
        wanted.is_some_and(|wanted| i64::try_from(count).unwrap_or(i64::MAX) >= i64::from(wanted))
    };
    let at = rules.into_iter().flatten().position(|rule| {
        let Some(text) = &rule.succeeded_indexes else {
            return enough(succeeded.len(), rule.succeeded_count);
        };
        let wanted = indexes::lenient(text, completions);
        let wanted: BTreeSet<i32> = wanted.iter().flat_map(|i| i.first..=i.last).collect();
        let there = wanted.intersection(succeeded).count();
        !wanted.is_empty() && (there == wanted.len() || enough(there, rule.succeeded_count))
    })?;
    Some(format!("Matched rules at index {at}"))
}
