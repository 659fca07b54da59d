//! An Ingress that names no class gets the default one: the newest, should there be several.
//!
//! Behaviour: `plugin/pkg/admission/network/defaultingressclass`.

use std::cmp::Reverse;

use api::networking::{ingress, ingressclass};
use machinery::{ApiError, Object};

use super::{Operation, Request};
use crate::Lookup;

const GROUP: &str = "networking.k8s.io";

pub(super) fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let concerns = request.is_for(GROUP, "ingresses")
        && request.subresource.is_empty()
        && request.operation == Operation::Create;
    let annotation = ["metadata", "annotations", ingress::CLASS_ANNOTATION];
    let named = object
        .at(&["spec", "ingressClassName"])
        .is_some_and(|v| !v.is_null())
        || object.at(&annotation).is_some();
    if !concerns || named {
        return Ok(());
    }
    let classes = lookup.list(GROUP, "ingressclasses", "").into_iter();
    let default = classes
        .filter(|class| {
            class.str_at(&["metadata", "annotations", ingressclass::IS_DEFAULT]) == "true"
        })
        .min_by_key(|class| {
            let created = class.meta_str("creationTimestamp").to_owned();
            (Reverse(created), class.name().to_owned())
        });
    if let Some(class) = default {
        object
            .object_at_mut(&["spec"])
            .insert("ingressClassName".into(), class.name().into());
    }
    Ok(())
}
