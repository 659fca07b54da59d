//! Which nodes a pod may be on: node selectors against labels and names, tolerations against taints.
//!
//! Behaviour: `k8s.io/component-helpers/scheduling/corev1` with its `nodeaffinity`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration,
};

/// Labels of a node.
pub type Labels = BTreeMap<String, String>;

/// Whether one of the terms matches the node.
pub fn matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    let terms = &selector.node_selector_terms;
    terms.iter().any(|term| matches_term(term, name, labels))
}

/// All requirements hold; a term without any matches nothing.
pub fn matches_term(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |r: &NodeSelectorRequirement| holds(r, labels.get(&r.key).map(String::as_str));
    let field = |r: &NodeSelectorRequirement| holds(r, (r.key == "metadata.name").then_some(name));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(label)
        && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
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

/// Whether the toleration covers the taint: an empty effect or key is a wildcard, an empty operator means equality.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let (own, value) = (text(&taint.value), text(&toleration.value));
    let numbers = || Some((own.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    match text(&toleration.operator).as_str() {
        "" | "Equal" => value == own,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(own, limit)| own < limit),
        "Gt" => numbers().is_some_and(|(own, limit)| own > limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn term(term: Value) -> bool {
        let labels = Labels::from([("disk".into(), "ssd".into()), ("cores".into(), "8".into())]);
        matches_term(&serde_json::from_value(term).unwrap(), "n1", &labels)
    }

    #[test]
    fn terms_match_labels_and_names() {
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(term(expression("disk", "In", &["ssd", "nvme"])));
        assert!(!term(expression("disk", "NotIn", &["ssd"])));
        assert!(term(expression("gone", "DoesNotExist", &[])));
        assert!(term(expression("cores", "Gt", &["4"])));
        assert!(!term(expression("cores", "Lt", &["x"])));
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        assert!(term(field("n1")) && !term(field("n2")));
        assert!(!term(json!({})));
    }

    #[test]
    fn tolerations_cover_taints() {
        let covers = |toleration: Value| {
            let taint = json!({"key": "k", "value": "5", "effect": "NoExecute"});
            tolerates(
                &serde_json::from_value(toleration).unwrap(),
                &serde_json::from_value(taint).unwrap(),
            )
        };
        assert!(covers(json!({"operator": "Exists"})));
        assert!(covers(json!({"key": "k", "value": "5"})));
        assert!(!covers(json!({"key": "k", "value": "6"})));
        assert!(!covers(
            json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})
        ));
        assert!(covers(json!({"key": "k", "operator": "Lt", "value": "6"})));
    }
}
