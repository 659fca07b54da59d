//! What several kinds warn their writers of: labels of nodes that have a successor, odd spellings of addresses.
//!
//! Upstream: `pkg/api/node/util.go`, `GetWarningsForIP` and `GetWarningsForCIDR` of `apimachinery/pkg/util/validation`.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use machinery::{Path, names};

use crate::view::Items;

/// Labels that nodes had once, and what to say about them.
const OLD_NODE_LABELS: &[(&str, &str)] = &[
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

/// What to say about a node label that should not be used any more.
pub(crate) fn node_label(key: &str) -> Option<&'static str> {
    let mut all = OLD_NODE_LABELS.iter();
    all.find(|(old, _)| *old == key).map(|(_, text)| *text)
}

/// About the keys, and about the values if asked to, of a term that selects nodes.
pub(crate) fn node_selector_term(
    warnings: &mut Vec<String>,
    term: &NodeSelectorTerm,
    values_too: bool,
    path: &Path,
) {
    for (i, expression) in term.match_expressions.items().iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let NodeSelectorRequirement { key, values, .. } = expression;
        if let Some(text) = node_label(key) {
            warnings.push(format!("{}: {key} is {text}", path.child("key")));
        }
        if !values_too {
            continue;
        }
        for (j, value) in values.items().iter().enumerate() {
            let at = path.child("values").index(j);
            let messages = names::label_value(value).into_iter();
            warnings.extend(messages.map(|message| format!("{at}: {value} is invalid, {message}")));
        }
    }
}

/// About the spelling of an address.
pub(crate) fn ip(warnings: &mut Vec<String>, path: &Path, value: &str) {
    warnings.extend(names::ip_warning(value).map(|text| format!("{path}: {text}")));
}

/// About the spelling of a CIDR.
pub(crate) fn cidr(warnings: &mut Vec<String>, path: &Path, value: &str) {
    let about = names::cidr_warnings(value).into_iter();
    warnings.extend(about.map(|text| format!("{path}: {text}")));
}
