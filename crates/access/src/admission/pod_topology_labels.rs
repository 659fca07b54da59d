//! PodTopologyLabels: a pod knows zone and region of its node by labels of its own.
//!
//! A binding takes the node's labels along; a pod that is made on a node has them at once.
//! Behaviour: `plugin/pkg/admission/podtopologylabels`.

use machinery::{ApiError, Object};

use super::{Operation, Request};
use crate::Lookup;

const LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !request.is_for("", "pods") || request.operation != Operation::Create {
        return Ok(());
    }
    let node = match request.subresource {
        "" => object.str_at(&["spec", "nodeName"]),
        "binding" if object.str_at(&["target", "kind"]) == "Node" => {
            object.str_at(&["target", "name"])
        }
        _ => "",
    };
    if node.is_empty() {
        return Ok(());
    }
    let Some(node) = lookup.get("", "nodes", "", node) else {
        return Ok(());
    };
    for label in LABELS {
        if let Some(value) = node.label(label) {
            object
                .object_at_mut(&["metadata", "labels"])
                .insert(label.into(), value.into());
        }
    }
    Ok(())
}
