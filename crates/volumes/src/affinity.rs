//! Node selectors: whether a node is among those that a volume can be used on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
};

/// What a node selector looks at.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether the volume can be used on the node.
pub fn allows(volume: &PersistentVolume, place: Place<'_>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required.as_ref());
    required.is_none_or(|required| selects(required, place))
}

/// Whether any term of the selector matches the node.
pub fn selects(selector: &NodeSelector, place: Place<'_>) -> bool {
    let mut terms = selector.node_selector_terms.iter();
    terms.any(|term| matches_term(term, place))
}

/// Whether all requirements of a term hold; a term without any matches nothing.
pub fn matches_term(term: &NodeSelectorTerm, place: Place<'_>) -> bool {
    let expressions: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |r: &&NodeSelectorRequirement| {
        matches_requirement(r, place.labels.get(&r.key).map(String::as_str))
    };
    let field = |r: &&NodeSelectorRequirement| {
        matches_requirement(r, (r.key == "metadata.name").then_some(place.name))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = || value.is_some_and(|value| values.iter().any(|v| v == value));
    let compare = |test: fn(i64, i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        let wanted = values.first().and_then(|v| number(v));
        matches!((value.and_then(number), wanted), (Some(a), Some(b)) if test(a, b))
    };
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}
